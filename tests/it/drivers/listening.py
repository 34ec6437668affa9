"""psycopg 3 and asyncpg against the DSN given: they listen while others work and notify.

Every check holds on PostgreSQL itself too. Exits non-zero at the first difference.
"""

import asyncio
import sys
import threading

import asyncpg
import psycopg

DSN = sys.argv[1]
MANY = [str(n) for n in range(200)]


def works(stop):
    with psycopg.connect(DSN, autocommit=True) as worker:
        while not stop.is_set():
            with worker.transaction():
                worker.execute("SELECT pg_sleep(0.005)")


def psycopg_listens():
    with psycopg.connect(DSN, autocommit=True) as listener, psycopg.connect(DSN, autocommit=True) as notifier:
        heard = lambda count: list(listener.notifies(timeout=30, stop_after=count))
        listener.execute("LISTEN jobs")
        for payload in MANY:
            notifier.execute("SELECT pg_notify('jobs', %s)", (payload,))
        assert [notify.payload for notify in heard(len(MANY))] == MANY
        listener.execute("NOTIFY jobs, 'mine'")
        (mine,) = heard(1)
        assert (mine.payload, mine.pid) == ("mine", listener.info.backend_pid), mine
        notifier.execute("NOTIFY jobs, 'theirs'")
        (theirs,) = heard(1)
        assert theirs.pid != listener.info.backend_pid, theirs
        with listener.transaction():
            listener.execute("LISTEN late")
            listener.execute("UNLISTEN jobs")
        notifier.execute("NOTIFY jobs, 'unheard'")
        notifier.execute("NOTIFY late, 'heard'")
        assert [notify.payload for notify in heard(1)] == ["heard"]
        listener.execute("UNLISTEN *")


async def asyncpg_listens():
    listener, notifier = await asyncpg.connect(DSN), await asyncpg.connect(DSN)
    heard = asyncio.Queue()
    take = lambda: asyncio.wait_for(heard.get(), 30)
    callback = lambda _, pid, channel, payload: heard.put_nowait((channel, payload, pid))
    await listener.add_listener("Jobs", callback)
    for payload in MANY:
        await notifier.execute("SELECT pg_notify('Jobs', $1)", payload)
    assert [(await take())[:2] for _ in MANY] == [("Jobs", payload) for payload in MANY]
    await listener.execute("NOTIFY \"Jobs\", 'mine'")
    assert await take() == ("Jobs", "mine", listener.get_server_pid())
    async with listener.transaction():
        assert await listener.fetchval("SELECT $1::int", 7) == 7
        # It may have to wait for the only server.
        meanwhile = asyncio.create_task(notifier.execute("NOTIFY \"Jobs\", 'meanwhile'"))
        await asyncio.sleep(0)
    await meanwhile
    assert (await take())[:2] == ("Jobs", "meanwhile")
    await listener.remove_listener("Jobs", callback)
    await listener.close()
    await notifier.close()


stop = threading.Event()
workers = [threading.Thread(target=works, args=(stop,)) for _ in range(3)]
for worker in workers:
    worker.start()
try:
    psycopg_listens()
    asyncio.run(asyncpg_listens())
finally:
    stop.set()
    for worker in workers:
        worker.join()
print("listening: ok")
