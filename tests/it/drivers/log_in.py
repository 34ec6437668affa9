"""Logs in to each DSN given, with psycopg 3 and with asyncpg. Prints who it is there, or the message of the refusal."""

import asyncio
import sys

import asyncpg
import psycopg


def by_psycopg(dsn):
    try:
        with psycopg.connect(dsn) as conn:
            return conn.execute("SELECT current_user").fetchone()[0]
    except psycopg.OperationalError as error:
        # libpq gives no SQLSTATE for a failed login.
        return str(error).strip().rsplit("FATAL:  ", 1)[-1].splitlines()[0]


async def by_asyncpg(dsn):
    try:
        conn = await asyncpg.connect(dsn)
    except asyncpg.PostgresError as error:
        return error.message
    try:
        return await conn.fetchval("SELECT current_user")
    finally:
        await conn.close()


for dsn in sys.argv[1:]:
    print("psycopg", by_psycopg(dsn))
    print("asyncpg", asyncio.run(by_asyncpg(dsn)))
