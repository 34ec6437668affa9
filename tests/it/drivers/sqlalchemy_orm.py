"""SQLAlchemy as applications use it, over psycopg and asyncpg: two engines interleaved, so that each meets what the other
has left on a server."""

import asyncio
import enum
import sys

from sqlalchemy import (
    ARRAY,
    Column,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    create_engine,
    event,
    exc,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    calm = "calm"
    cross = "cross"


class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    mood: Mapped[Mood] = mapped_column(Enum(Mood, name="mood"), default=Mood.calm)
    tags: Mapped[list[str]] = mapped_column(ARRAY(String), default=list)
    extra: Mapped[dict] = mapped_column(JSONB, default=dict)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    number = Sequence("book_numbers", start=100)
    id: Mapped[int] = mapped_column(number, primary_key=True, server_default=number.next_value())
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def engine_of(dsn, schema, **options):
    engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"), **options)

    @event.listens_for(engine, "connect", insert=True)
    def search_path(connection, _):
        before, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET SESSION search_path = {schema}, public")
        connection.autocommit = before

    with engine.begin() as conn:
        conn.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    return engine


def works(engine, me):
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        one = Author(name=f"{me} one", tags=["a", "b"], extra={"me": me})
        one.books = [Book(title=f"{me} {n}") for n in range(30)]
        session.add(one)
        session.flush()
        assert one.id and all(book.id >= 100 for book in one.books)
        with session.begin_nested() as savepoint:
            session.add(Author(name="gone"))
            session.flush()
            savepoint.rollback()
        try:
            with session.begin_nested():
                session.add(Author(name=f"{me} one"))
                session.flush()
            raise AssertionError("the name is taken")
        except exc.IntegrityError:
            pass
        session.commit()
        assert session.scalars(select(func.count()).select_from(Book)).one() == 30
        found = session.scalars(select(Author).where(Author.extra["me"].astext == me)).one()
        assert found.tags == ["a", "b"] and found.mood is Mood.calm
        found.mood = Mood.cross
        session.commit()
        session.execute(insert(Author).values(name=f"{me} one", mood="calm").on_conflict_do_nothing())
        session.commit()
        assert session.scalars(select(Author.mood)).all() == [Mood.cross]
        session.delete(found)
        session.commit()


def sees_its_own(engine, me):
    """What a session is like: the search_path that it has set, and no trace of the other's."""
    with engine.connect() as conn:
        assert conn.scalar(text("SHOW search_path")) == f"{me}, public"
    names = inspect(engine).get_table_names(schema=me)
    assert set(names) == {"authors", "books"}, names
    columns = {column["name"]: str(column["type"]) for column in inspect(engine).get_columns("books")}
    assert columns["title"] == "VARCHAR", columns
    reflected = Table("authors", MetaData(), autoload_with=engine)
    assert {key.name for key in reflected.columns} == {"id", "name", "mood", "tags", "extra"}


def levels(engine):
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "serializable"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("VACUUM"))
    with engine.connect().execution_options(postgresql_readonly=True) as conn:
        assert conn.scalar(text("SHOW transaction_read_only")) == "on"
    with engine.connect() as conn:
        assert conn.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert conn.scalar(text("SHOW transaction_read_only")) == "off"


def streams(engine):
    with engine.connect().execution_options(stream_results=True, yield_per=100) as conn:
        assert sum(conn.scalars(text("SELECT * FROM generate_series(1, 5000)"))) == 5000 * 5001 // 2


def temporary(engine):
    with engine.begin() as conn:
        table = Table("scratch", MetaData(), Column("n", Integer), prefixes=["TEMPORARY"])
        table.create(conn)
        conn.execute(table.insert(), [{"n": n} for n in range(500)])
        assert conn.scalar(select(func.sum(table.c.n))) == 500 * 499 // 2
        table.drop(conn)


async def without_waiting(dsn, me):
    settings = {"server_settings": {"search_path": f"{me}, public", "application_name": me}}
    engine = create_async_engine(dsn.replace("postgresql:", "postgresql+asyncpg:"), connect_args=settings)

    async def one(n):
        async with AsyncSession(engine) as session, session.begin():
            author = Author(name=f"{me} async {n}", tags=[str(n)])
            author.books = [Book(title=str(n))]
            session.add(author)
            await session.flush()
            assert (await session.scalars(select(Book.title).where(Book.author_id == author.id))).all() == [str(n)]
            assert await session.scalar(text("SHOW application_name")) == me

    await asyncio.gather(*(one(n) for n in range(12)))
    async with engine.begin() as conn:
        assert await conn.scalar(text("SELECT count(*) FROM authors WHERE name LIKE '% async %'")) == 12
        await conn.execute(text("DELETE FROM books"))
        await conn.execute(text("DELETE FROM authors"))
    await engine.dispose()


def main():
    dsn = sys.argv[1]
    engines = {me: engine_of(dsn, me, pool_pre_ping=True) for me in ("red", "blue")}
    for _ in range(2):
        for step in (works, sees_its_own):
            for me, engine in engines.items():
                step(engine, me)
        for step in (levels, streams, temporary):
            for engine in engines.values():
                step(engine)
        for me in engines:
            asyncio.run(without_waiting(dsn, me))
    for engine in engines.values():
        engine.dispose()
    print("SQLAlchemy: ok")


main()
