"""psycopg 3 against the DSN given: several connections at once, each doing what applications do.

Every check holds on PostgreSQL itself too. Exits non-zero with a traceback at the first difference.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row

DSN = sys.argv[1]
CLIENTS = 5


def raises(expected, action):
    try:
        action()
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


def one(conn, query, params=None, **options):
    return conn.execute(query, params, **options).fetchone()[0]


def transactions(conn, me):
    conn.execute(sql.SQL("CREATE TABLE {} (n int PRIMARY KEY, t text)").format(sql.Identifier(f"tx_{me}")))
    with conn.transaction():
        conn.execute(f"INSERT INTO tx_{me} VALUES (1, 'kept')")
        raises(ZeroDivisionError, lambda: inner_rollback(conn, me))
        conn.execute(f"INSERT INTO tx_{me} VALUES (3, %s)", ("kept too",))
    raises(ZeroDivisionError, lambda: outer_rollback(conn, me))
    rows = conn.execute(f"SELECT n FROM tx_{me} ORDER BY n").fetchall()
    assert rows == [(1,), (3,)], rows
    for isolation in psycopg.IsolationLevel:
        conn.isolation_level = isolation
        with conn.transaction():
            level = one(conn, "SHOW transaction_isolation")
            assert level == isolation.name.lower().replace("_", " "), level
    conn.isolation_level = None


def inner_rollback(conn, me):
    with conn.transaction():
        conn.execute(f"INSERT INTO tx_{me} VALUES (2, 'dropped')")
        raise ZeroDivisionError


def outer_rollback(conn, me):
    with conn.transaction():
        conn.execute(f"INSERT INTO tx_{me} VALUES (4, 'dropped')")
        raise ZeroDivisionError


def mistakes(conn, me):
    raises(errors.SyntaxError, lambda: conn.execute("SELEC 1"))
    raises(errors.DivisionByZero, lambda: conn.execute("SELECT 1 / %s", (0,)))
    raises(errors.UndefinedTable, lambda: conn.execute("SELECT * FROM nowhere", prepare=True))
    raises(errors.InvalidTextRepresentation, lambda: conn.execute("SELECT %s::text::int", ("x",)))
    assert one(conn, "SELECT %s::text", (f"on with {me}",)) == f"on with {me}"
    raises(errors.InFailedSqlTransaction, lambda: failed_block(conn))
    assert one(conn, "SELECT 1") == 1
    raises(errors.UniqueViolation, lambda: conn.execute(f"INSERT INTO tx_{me} VALUES (1, 'again')"))


def failed_block(conn):
    with conn.transaction():
        raises(errors.DivisionByZero, lambda: conn.execute("SELECT 1 / 0"))
        conn.execute("SELECT 1")


def notices(conn, me):
    heard = []
    conn.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    conn.execute(f"DO $$ BEGIN RAISE NOTICE 'for %', {me}; END $$")
    assert heard == [f"for {me}"], heard


def copy(conn, me):
    conn.execute(f"CREATE TABLE copy_{me} (n int, t text)")
    with conn.cursor() as cur:
        with cur.copy(f"COPY copy_{me} FROM STDIN") as into:
            for n in range(20_000):
                into.write_row((n, f"{me} row {n}"))
        assert cur.rowcount == 20_000
        with cur.copy(f"COPY (SELECT * FROM copy_{me} ORDER BY n) TO STDOUT") as out:
            rows = [tuple(row) for row in out.rows()]
        assert rows[17] == ("17", f"{me} row 17") and len(rows) == 20_000
        with cur.copy(f"COPY copy_{me} TO STDOUT (FORMAT binary)") as out:
            out.set_types(["int4", "text"])
            assert sum(n for n, _ in out.rows()) == sum(range(20_000))
    # The server refuses the rows while the client still sends them.
    raises(errors.InvalidTextRepresentation, lambda: bad_copy(conn, me, "not a number\tx\n" * 20_000))
    # The client itself gives up.
    raises(ZeroDivisionError, lambda: abandoned_copy(conn, me))
    # Only a part of the data is read: the driver cancels the rest.
    raises(ZeroDivisionError, lambda: half_read_copy(conn, me))
    assert one(conn, f"SELECT count(*) FROM copy_{me}") == 20_000
    raises(errors.UndefinedTable, lambda: bad_copy(conn, "nobody", ""))
    assert one(conn, "SELECT 2") == 2


def bad_copy(conn, me, data):
    with conn.cursor() as cur, cur.copy(f"COPY copy_{me} FROM STDIN") as into:
        into.write(data)


def abandoned_copy(conn, me):
    with conn.cursor() as cur, cur.copy(f"COPY copy_{me} FROM STDIN") as into:
        into.write_row((1, "never"))
        raise ZeroDivisionError


def half_read_copy(conn, me):
    with conn.cursor() as cur, cur.copy(f"COPY copy_{me} TO STDOUT") as out:
        assert out.read()
        raise ZeroDivisionError


def cancel(conn, me):
    for inside in (False, True):
        request = conn.cancel_safe if inside else conn.cancel
        raises(errors.QueryCanceled, lambda: sleep(conn, inside, request))
        assert one(conn, "SELECT %s::int", (me,)) == me


def sleep(conn, inside_a_transaction, request):
    if not inside_a_transaction:
        return interrupted_sleep(conn, request)
    with conn.transaction():
        conn.execute("SELECT 1")
        interrupted_sleep(conn, request)


def interrupted_sleep(conn, request):
    answered = threading.Event()

    def ask():
        # A request that comes while nothing runs is lost, and has to be.
        while not answered.wait(0.3):
            request()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        conn.execute("SELECT pg_sleep(60)")
    finally:
        # PostgreSQL signals a backend twice, the second time as a member of its process group. The request's connection
        # is closed when both signals are sent: until then the second may still hit what comes next, such as ROLLBACK.
        answered.set()
        asking.join()


def pipelines(conn, me):
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int * 2", (n,)) for n in range(200)]
    assert [cur.fetchone()[0] for cur in cursors] == [2 * n for n in range(200)]
    # Empty: all that goes out is a Sync.
    for _ in range(3):
        with conn.pipeline():
            pass
    # An error aborts up to the next Sync, and only that.
    answers = []
    raises(errors.DivisionByZero, lambda: broken_pipeline(conn, me, answers))
    assert answers[0].fetchone()[0] == f"{me} before"
    assert one(conn, f"SELECT count(*) FROM tx_{me} WHERE n = 50") == 0
    # A transaction within a pipeline, statements prepared on the way.
    with conn.pipeline(), conn.transaction():
        for n in range(100, 120):
            conn.execute(f"INSERT INTO tx_{me} VALUES (%s, %s)", (n, "pipe"), prepare=True)
    assert one(conn, f"SELECT count(*) FROM tx_{me} WHERE t = 'pipe'") == 20
    with conn.cursor() as cur:
        cur.executemany(f"INSERT INTO tx_{me} VALUES (%s, %s) RETURNING n", [(n, "many") for n in range(200, 300)],
                        returning=True)
        assert cur.fetchone()[0] == 200


def broken_pipeline(conn, me, answers):
    with conn.pipeline() as pipe:
        answers.append(conn.execute("SELECT %s::text", (f"{me} before",)))
        pipe.sync()
        conn.execute("SELECT 1 / %s", (0,))
        conn.execute(f"INSERT INTO tx_{me} VALUES (50, 'skipped')")


def prepared(conn, me):
    """Named statements, over many transactions and so over all servers."""
    conn.prepare_threshold = 0
    conn.prepared_max = 7  # fewer than the texts below: the driver closes statements on the way
    for round_ in range(60):
        for text in range(10):
            row = one(conn, f"SELECT %s::text || ' {text}'", (f"{me}.{round_}",), binary=text % 2 == 0)
            assert row == f"{me}.{round_} {text}", row
    with conn.cursor(row_factory=dict_row) as cur:
        row = cur.execute("SELECT %s::int AS a, %s::text AS b", (me, "x")).fetchone()
        assert row == {"a": me, "b": "x"}, row
    conn.prepare_threshold = 5
    conn.prepared_max = 100


def large(conn, me):
    query = "SELECT n, repeat(%s, 100) FROM generate_series(1, 100000) AS n"
    rows = conn.execute(query, (str(me),)).fetchall()
    assert len(rows) == 100_000 and rows[-1] == (100_000, str(me) * 100)
    with conn.cursor() as cur:
        total = sum(row[0] for row in cur.stream("SELECT n FROM generate_series(1, 50000) AS n"))
    assert total == sum(range(50_001))
    # One value of many megabytes, there and back.
    text = str(me) * 20_000_000
    assert one(conn, "SELECT %s::text", (text,)) == text
    with conn.transaction(), conn.cursor(name=f"portal_{me}") as cur:
        cur.itersize = 500
        cur.execute("SELECT n FROM generate_series(1, 5000) AS n")
        assert sum(row[0] for row in cur) == sum(range(5001))


def client(me):
    with psycopg.connect(DSN, autocommit=True, application_name=f"client {me}") as conn:
        for step in (transactions, mistakes, notices, copy, cancel, pipelines, prepared, large):
            try:
                step(conn, me)
            except BaseException as error:
                error.add_note(f"client {me}, in {step.__name__}")
                raise
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE, step.__name__
            assert one(conn, "SELECT %s::int", (me,)) == me, step.__name__
        assert one(conn, "SHOW application_name") == f"client {me}"


def main():
    with ThreadPoolExecutor(CLIENTS) as pool:
        for outcome in [pool.submit(client, me) for me in range(1, CLIENTS + 1)]:
            outcome.result()
    # Without autocommit: the driver sends BEGIN by itself.
    with psycopg.connect(DSN) as conn:
        conn.execute("CREATE TABLE implicit AS SELECT 1 AS n")
        conn.rollback()
        assert one(conn, "SELECT to_regclass('implicit')") is None
        conn.commit()
    print("psycopg 3: ok")


main()
