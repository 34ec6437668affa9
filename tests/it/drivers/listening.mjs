// node-postgres against the DSN given: it listens while another notifies. Every check holds on PostgreSQL itself too.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { Client } = createRequire(`${process.env.NODE_DRIVERS}/`)('pg');

const connect = async () => {
  const client = new Client({ connectionString: process.argv[2] });
  await client.connect();
  return client;
};

const [listener, notifier] = [await connect(), await connect()];
const heard = [];
let wake = () => {};
listener.on('notification', (message) => {
  heard.push(message);
  wake();
});
const take = async () => {
  while (heard.length === 0) {
    await new Promise((resolve) => (wake = resolve));
  }
  return heard.shift();
};

await listener.query('LISTEN jobs');
for (let n = 0; n < 200; n += 1) {
  await notifier.query('SELECT pg_notify($1, $2)', ['jobs', `${n}`]);
}
for (let n = 0; n < 200; n += 1) {
  assert.equal((await take()).payload, `${n}`);
}
await listener.query("NOTIFY jobs, 'mine'");
const mine = await take();
assert.deepEqual([mine.payload, mine.processId], ['mine', listener.processID]);
await notifier.query("NOTIFY jobs, 'theirs'");
assert.notEqual((await take()).processId, listener.processID);
await listener.query('UNLISTEN jobs');
await listener.end();
await notifier.end();
console.log('listening: ok');
