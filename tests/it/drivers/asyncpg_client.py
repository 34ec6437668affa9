"""asyncpg against the DSN given: named prepared statements for everything, many connections on one loop.

Every check holds on PostgreSQL itself too. Exits non-zero with a traceback at the first difference.
"""

import asyncio
import io
import sys

import asyncpg

DSN = sys.argv[1]
CLIENTS = 6


async def raises(expected, action):
    try:
        await action
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


async def transactions(conn, me):
    await conn.execute(f"CREATE TABLE tx_{me} (n int PRIMARY KEY, t text)")
    async with conn.transaction():
        await conn.execute(f"INSERT INTO tx_{me} VALUES ($1, $2)", 1, "kept")
        await raises(ZeroDivisionError, rolled_back(conn, me, 2))
        await conn.execute(f"INSERT INTO tx_{me} VALUES ($1, $2)", 3, "kept too")
    await raises(ZeroDivisionError, rolled_back(conn, me, 4))
    assert [row["n"] for row in await conn.fetch(f"SELECT n FROM tx_{me} ORDER BY n")] == [1, 3]
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        assert await conn.fetchval("SHOW transaction_isolation") == "serializable"
        assert await conn.fetchval("SHOW transaction_read_only") == "on"


async def rolled_back(conn, me, n):
    async with conn.transaction():
        await conn.execute(f"INSERT INTO tx_{me} VALUES ($1, 'dropped')", n)
        raise ZeroDivisionError


async def mistakes(conn, me):
    await raises(asyncpg.PostgresSyntaxError, conn.execute("SELEC 1"))
    await raises(asyncpg.PostgresSyntaxError, conn.fetch("SELEC $1::int", 1))
    await raises(asyncpg.DivisionByZeroError, conn.fetchval("SELECT 1 / $1::int", 0))
    await raises(asyncpg.UndefinedTableError, conn.fetch("SELECT * FROM nowhere"))
    await raises(asyncpg.UniqueViolationError, conn.execute(f"INSERT INTO tx_{me} VALUES ($1, 'again')", 1))
    await raises(asyncpg.InFailedSQLTransactionError, failed_block(conn))
    assert await conn.fetchval("SELECT $1::int", me) == me


async def failed_block(conn):
    async with conn.transaction():
        await raises(asyncpg.DivisionByZeroError, conn.fetchval("SELECT 1 / $1::int", 0))
        await conn.fetchval("SELECT 1")


async def copy(conn, me):
    await conn.execute(f"CREATE TABLE copy_{me} (n int, t text)")
    records = [(n, f"{me} row {n}") for n in range(20_000)]
    assert await conn.copy_records_to_table(f"copy_{me}", records=records) == "COPY 20000"
    out = io.BytesIO()
    query = f"SELECT n, t FROM copy_{me} WHERE n < $1 ORDER BY n"
    assert await conn.copy_from_query(query, 1_000, output=out) == "COPY 1000"
    lines = out.getvalue().decode().splitlines()
    assert lines[17] == f"17\t{me} row 17", lines[17]
    bad = io.BytesIO(b"not a number\tx\n" * 20_000)
    error = asyncpg.InvalidTextRepresentationError
    await raises(error, conn.copy_to_table(f"copy_{me}", source=bad))
    await raises(asyncpg.UndefinedTableError, conn.copy_to_table("nowhere", source=io.BytesIO(b"1\n")))
    assert await conn.fetchval(f"SELECT count(*) FROM copy_{me}") == 20_000


async def cancel(conn, me):
    # The driver cancels on the server what it no longer waits for, and goes on with the connection.
    await raises(asyncio.TimeoutError, conn.fetch("SELECT pg_sleep(60)", timeout=0.2))
    assert await conn.fetchval("SELECT $1::int", me) == me
    task = asyncio.ensure_future(conn.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.2)
    task.cancel()
    await raises(asyncio.CancelledError, task)
    assert await conn.fetchval("SELECT $1::int", me) == me
    await raises(asyncio.TimeoutError, cancelled_block(conn))
    assert not conn.is_in_transaction() and await conn.fetchval("SELECT $1::int", me) == me


async def cancelled_block(conn):
    async with conn.transaction():
        await conn.execute("SELECT 1")
        await conn.fetch("SELECT pg_sleep(60)", timeout=0.2)


async def pipelines(conn, me):
    # Bind and Execute many times before one Sync.
    await conn.executemany(f"INSERT INTO tx_{me} VALUES ($1, $2)", [(n, "many") for n in range(100, 3_100)])
    assert await conn.fetchval(f"SELECT count(*) FROM tx_{me} WHERE t = 'many'") == 3_000
    # All or nothing, with the error in the middle.
    rows = [(n, "none") for n in (5_000, 5_001, 1, 5_002)]
    await raises(asyncpg.UniqueViolationError, conn.executemany(f"INSERT INTO tx_{me} VALUES ($1, $2)", rows))
    assert await conn.fetchval(f"SELECT count(*) FROM tx_{me} WHERE t = 'none'") == 0
    # Several statements in one Query.
    await conn.execute(f"INSERT INTO tx_{me} VALUES (6000, 'a'); INSERT INTO tx_{me} VALUES (6001, 'b'); SELECT 1")


async def prepared(conn, me):
    statements = [await conn.prepare(f"SELECT $1::text || ' {text}'") for text in range(8)]
    for round_ in range(60):
        for text, statement in enumerate(statements):
            value = await statement.fetchval(f"{me}.{round_}")
            assert value == f"{me}.{round_} {text}", value
    # More texts than the driver's cache holds: it closes statements on the way.
    for n in range(150):
        assert await conn.fetchval(f"SELECT $1::int + {n}", me) == me + n
    # Types that the driver looks up with statements of its own.
    await conn.execute(f"CREATE TYPE mood_{me} AS ENUM ('good', 'bad')")
    assert await conn.fetchval(f"SELECT $1::mood_{me}", "good") == "good"
    assert await conn.fetchval(f"SELECT ARRAY['bad']::mood_{me}[]") == ["bad"]


async def large(conn, me):
    rows = await conn.fetch("SELECT n, repeat($1, 100) AS t FROM generate_series(1, 100000) AS n", str(me))
    assert len(rows) == 100_000 and rows[-1]["t"] == str(me) * 100
    text = str(me) * 20_000_000
    assert await conn.fetchval("SELECT $1::text", text) == text
    async with conn.transaction():
        total = 0
        # A portal, read in portions: Execute with a row limit, and Flush without Sync in between.
        async for row in conn.cursor("SELECT n FROM generate_series(1, 5000) AS n", prefetch=100):
            total += row["n"]
    assert total == sum(range(5001))


async def client(me):
    conn = await asyncpg.connect(DSN, statement_cache_size=50)
    try:
        for step in (transactions, mistakes, copy, cancel, pipelines, prepared, large):
            try:
                await step(conn, me)
            except BaseException as error:
                error.add_note(f"client {me}, in {step.__name__}")
                raise
            assert await conn.fetchval("SELECT $1::int", me) == me, step.__name__
    finally:
        await conn.close(timeout=10)


async def pool():
    """The driver's own pool in front: it resets each connection when it is given back."""
    async with asyncpg.create_pool(DSN, min_size=2, max_size=8) as pool:
        async def ask(n):
            async with pool.acquire() as conn:
                assert await conn.fetchval("SELECT $1::int", n) == n

        await asyncio.gather(*(ask(n) for n in range(300)))


async def main():
    await asyncio.gather(*(client(me) for me in range(1, CLIENTS + 1)))
    await pool()
    print("asyncpg: ok")


asyncio.run(main())
