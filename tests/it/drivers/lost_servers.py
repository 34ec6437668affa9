"""psycopg 3 and asyncpg against the DSN given, of a pooler in transaction mode: their servers are terminated.

What is lost fails with an error of class 08, and the connection goes on. Exits non-zero at the first difference.
"""

import asyncio
import sys

import asyncpg
import psycopg
from psycopg.pq import TransactionStatus

DSN = sys.argv[1]


def raises(sqlstate, action):
    try:
        action()
    except psycopg.OperationalError as error:
        assert error.sqlstate == sqlstate, error
    else:
        raise AssertionError(f"{sqlstate} was not raised")


def terminate(pid):
    with psycopg.connect(DSN, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 30000)", (pid,)).fetchone()[0]


def begun(conn):
    conn.execute("INSERT INTO lost VALUES (1)")
    return conn.execute("SELECT pg_backend_pid()").fetchone()[0]


def with_psycopg():
    with psycopg.connect(DSN) as conn:
        conn.execute("CREATE TABLE lost (n int)")
        conn.commit()
        terminate(begun(conn))
        raises("08006", lambda: conn.execute("INSERT INTO lost VALUES (%s)", (2,)))
        assert conn.info.transaction_status == TransactionStatus.INERROR
        conn.rollback()
        terminate(begun(conn))
        raises("08006", conn.commit)
        assert conn.info.transaction_status == TransactionStatus.IDLE
        terminate(begun(conn))
        conn.rollback()
        # An error of its own inside, and the end of the block outside.
        def nested():
            with conn.transaction(), conn.transaction():
                terminate(begun(conn))
                conn.execute("INSERT INTO lost VALUES (3)")
        raises("08006", nested)
        def piped():
            with conn.pipeline():
                terminate(begun(conn))
                conn.execute("INSERT INTO lost VALUES (4)")
                conn.execute("INSERT INTO lost VALUES (5)")
        raises("08006", piped)
        conn.rollback()
        assert conn.execute("SELECT count(*) FROM lost").fetchone()[0] == 0


async def with_asyncpg():
    conn = await asyncpg.connect(DSN)
    for _ in range(2):
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO lost VALUES ($1)", 1)
                pid = await conn.fetchval("SELECT pg_backend_pid()")
                await asyncio.to_thread(terminate, pid)
                await conn.execute("INSERT INTO lost VALUES ($1)", 2)
        except asyncpg.PostgresConnectionError as error:
            assert error.sqlstate == "08006", error
        else:
            raise AssertionError("no error was raised")
        assert not conn.is_closed() and not conn.is_in_transaction()
        assert await conn.fetchval("SELECT count(*) FROM lost") == 0
    await conn.close()


with_psycopg()
asyncio.run(with_asyncpg())
print("lost servers: ok")
