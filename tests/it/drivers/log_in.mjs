// Logs in to each DSN given, with node-postgres. Prints who it is there, or the message of the refusal.

import { createRequire } from "node:module";

const { Client } = createRequire(`${process.env.NODE_DRIVERS}/`)("pg");

for (const connectionString of process.argv.slice(2)) {
  const client = new Client({ connectionString });
  try {
    await client.connect();
    const { rows } = await client.query("SELECT current_user AS name");
    console.log(rows[0].name);
  } catch (error) {
    console.log(error.message);
  }
  await client.end().catch(() => {});
}
