// node-postgres against the DSN given: several clients at once, each doing what applications do.
//
// Every check holds on PostgreSQL itself too. Exits non-zero with a stack at the first difference.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";

const load = createRequire(`${process.env.NODE_DRIVERS}/`);
const pg = load("pg");
const copyStreams = load("pg-copy-streams");
const Cursor = load("pg-cursor");

const DSN = process.argv[2];
const CLIENTS = 5;

const one = async (client, text, values) => Object.values((await client.query(text, values)).rows[0])[0];
const code = (expected) => (error) => {
  assert.equal(error.code, expected, error.message);
  return true;
};

async function transactions(client, me) {
  await client.query(`CREATE TABLE tx_${me} (n int PRIMARY KEY, t text)`);
  await client.query("BEGIN");
  await client.query(`INSERT INTO tx_${me} VALUES ($1, $2)`, [1, "kept"]);
  await client.query("SAVEPOINT here");
  await client.query(`INSERT INTO tx_${me} VALUES ($1, $2)`, [2, "dropped"]);
  await client.query("ROLLBACK TO SAVEPOINT here");
  await client.query("COMMIT");
  await client.query(`BEGIN; INSERT INTO tx_${me} VALUES (3, 'dropped'); ROLLBACK`);
  assert.equal(await one(client, `SELECT string_agg(n::text, ' ') FROM tx_${me}`), "1");
}

async function mistakes(client, me) {
  await assert.rejects(client.query("SELEC 1"), code("42601"));
  await assert.rejects(client.query("SELECT 1 / $1::int", [0]), code("22012"));
  await assert.rejects(client.query("SELECT $1::int", ["x"]), code("22P02"));
  await assert.rejects(client.query({ name: "broken", text: "SELECT * FROM nowhere" }), code("42P01"));
  await client.query("BEGIN");
  await assert.rejects(client.query("SELECT 1 / 0"), code("22012"));
  await assert.rejects(client.query("SELECT 1"), code("25P02"));
  assert.equal((await client.query("COMMIT")).command, "ROLLBACK");
  assert.equal(await one(client, "SELECT $1::text", [`on with ${me}`]), `on with ${me}`);
}

async function notices(client, me) {
  const heard = [];
  const listener = (notice) => heard.push(notice.message);
  client.on("notice", listener);
  await client.query(`DO $$ BEGIN RAISE NOTICE 'for %', ${me}; END $$`);
  client.off("notice", listener);
  assert.deepEqual(heard, [`for ${me}`]);
}

async function copy(client, me) {
  await client.query(`CREATE TABLE copy_${me} (n int, t text)`);
  const rows = Array.from({ length: 20000 }, (_, n) => `${n}\t${me} row ${n}\n`);
  const into = client.query(copyStreams.from(`COPY copy_${me} FROM STDIN`));
  await pipeline(Readable.from(rows), into);
  assert.equal(into.rowCount, 20000);
  const chunks = [];
  const sink = new Writable({ write: (chunk, _, done) => (chunks.push(chunk), done()) });
  await pipeline(client.query(copyStreams.to(`COPY (SELECT * FROM copy_${me} ORDER BY n) TO STDOUT`)), sink);
  assert.equal(Buffer.concat(chunks).toString(), rows.join(""));
  // The server refuses the rows while the client still sends them.
  const bad = client.query(copyStreams.from(`COPY copy_${me} FROM STDIN`));
  await assert.rejects(pipeline(Readable.from(Array(20000).fill("not a number\tx\n")), bad), code("22P02"));
  assert.equal(await one(client, `SELECT count(*)::int FROM copy_${me}`), 20000);
}

async function cancel(client, me) {
  for (const begin of [false, true]) {
    if (begin) await client.query("BEGIN");
    const query = new pg.Query("SELECT pg_sleep(60)");
    const ended = new Promise((resolve, reject) => query.on("end", resolve).on("error", reject));
    client.query(query);
    await Promise.all([assert.rejects(ended, code("57014")), delay(200).then(() => cancelQuery(client, query))]);
    if (begin) await client.query("ROLLBACK");
    assert.equal(await one(client, "SELECT $1::int", [me]), me);
  }
}

// A client that never logs in: its connection carries nothing but the request, and is closed when PostgreSQL has sent
// its signals, of which there are two: until then the second may still hit what comes next.
async function cancelQuery(client, query) {
  const canceller = new pg.Client({ connectionString: DSN });
  const closed = once(canceller.connection, "end");
  canceller.cancel(client, query);
  await closed;
}

async function pipelines(client, me) {
  // Sent one after the other without waiting for answers.
  const eager = new pg.Client({ connectionString: DSN, pipeline: true });
  await eager.connect();
  const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => one(eager, "SELECT $1::int * 2", [n])));
  assert.deepEqual(answers, Array.from({ length: 200 }, (_, n) => 2 * n));
  const mixed = await Promise.allSettled([
    one(eager, "SELECT $1::text", [`${me} before`]),
    one(eager, "SELECT 1 / $1::int", [0]),
    one(eager, { name: "in a pipeline", text: "SELECT $1::text", values: [`${me} after`] }),
    one(eager, `SELECT '${me} simple'`),
  ]);
  await eager.end();
  assert.deepEqual(mixed.map((outcome) => outcome.value ?? outcome.reason.code), [
    `${me} before`,
    "22012",
    `${me} after`,
    `${me} simple`,
  ]);
  const results = await client.query(`SELECT 1 AS a; SELECT ${me} AS b; SELECT 3 AS c`);
  assert.deepEqual(results.map((result) => result.rows[0]), [{ a: 1 }, { b: me }, { c: 3 }]);
}

async function prepared(client, me) {
  for (let round = 0; round < 60; round++) {
    for (let text = 0; text < 8; text++) {
      const query = { name: `statement ${text}`, text: `SELECT $1::text || ' ${text}'`, values: [`${me}.${round}`] };
      assert.equal(await one(client, query), `${me}.${round} ${text}`);
    }
  }
}

async function large(client, me) {
  const { rows } = await client.query("SELECT n, repeat($1, 100) AS t FROM generate_series(1, 100000) AS n", [`${me}`]);
  assert.equal(rows.length, 100000);
  assert.equal(rows[99999].t, `${me}`.repeat(100));
  const text = `${me}`.repeat(20_000_000);
  assert.ok((await one(client, "SELECT $1::text", [text])) === text, "a value of 20 MB came back changed");
  // A portal, read in portions: Execute with a row limit, then Flush without Sync.
  await client.query("BEGIN");
  const cursor = client.query(new Cursor("SELECT n FROM generate_series(1, $1::int) AS n", [5000]));
  let total = 0;
  for (let portion = await cursor.read(100); portion.length > 0; portion = await cursor.read(100)) {
    total += portion.reduce((sum, row) => sum + row.n, 0);
  }
  await cursor.close();
  await client.query("COMMIT");
  assert.equal(total, (5000 * 5001) / 2);
}

async function work(me) {
  const client = new pg.Client({ connectionString: DSN, application_name: `client ${me}` });
  await client.connect();
  for (const step of [transactions, mistakes, notices, copy, cancel, pipelines, prepared, large]) {
    try {
      await step(client, me);
      assert.equal(await one(client, "SELECT $1::int", [me]), me);
    } catch (error) {
      throw new Error(`client ${me}, in ${step.name}`, { cause: error });
    }
  }
  assert.equal(await one(client, "SHOW application_name"), `client ${me}`);
  await client.end();
}

// The driver's own pool in front, as web applications have it.
async function pool() {
  const pool = new pg.Pool({ connectionString: DSN, max: 8 });
  const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => one(pool, "SELECT $1::int", [n])));
  assert.deepEqual(answers, Array.from({ length: 300 }, (_, n) => n));
  await pool.end();
}

await Promise.all(Array.from({ length: CLIENTS }, (_, n) => work(n + 1)));
await pool();
console.log("node-postgres: ok");
