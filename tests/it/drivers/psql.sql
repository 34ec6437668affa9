-- Run by psql directly and through the pooler; the output must be the same. Nothing here may print what differs from
-- run to run: process ids, times, ports, names of databases.

\set QUIET on
SELECT 1 AS one, 'two' AS two, NULL AS nothing;
SELECT;
;
CREATE TABLE t (n int PRIMARY KEY, v text);
INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 1000) AS n;
SELECT count(*), sum(n) FROM t;

-- Several statements in one Query, with an error in the middle: all of it is one transaction.
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 3 AS c;
INSERT INTO t VALUES (2001, 'lost') \; SELECT 1 / 0 \; INSERT INTO t VALUES (2002, 'never');
SELECT count(*) FROM t WHERE n > 2000;

-- Transactions, savepoints, failed blocks.
BEGIN;
INSERT INTO t VALUES (3001, 'kept');
SAVEPOINT a;
INSERT INTO t VALUES (1, 'twice');
SELECT 1;
ROLLBACK TO a;
INSERT INTO t VALUES (3002, 'kept');
COMMIT;
SELECT n FROM t WHERE n > 3000 ORDER BY n;
BEGIN;
SELECT broken;
SELECT 1;
COMMIT;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SHOW transaction_isolation;
INSERT INTO t VALUES (4001, 'refused');
ROLLBACK;
BEGIN \; SELECT 1 AS open \; SELECT 2 AS still_open;
SELECT 3 AS within;
COMMIT \; BEGIN;
SELECT 4 AS next;
ROLLBACK;

-- Mistakes of all kinds, and on with it.
SELEC 1;
SELECT * FROM nowhere;
SELECT 'x'::int;
SELECT 1 AS "still here";
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; RAISE EXCEPTION 'an exception' USING HINT = 'a hint'; END $$;

-- COPY, both ways, right and wrong.
COPY t FROM STDIN;
5001	copied
5002	copied too
\.
COPY t FROM STDIN;
5003	fine
not a number	broken
5004	never read
\.
COPY (SELECT * FROM t WHERE n > 5000 ORDER BY n) TO STDOUT;
COPY (SELECT 1 / 0) TO STDOUT;
COPY nowhere FROM STDIN;
\copy (SELECT n FROM t WHERE n < 4 ORDER BY n) TO STDOUT WITH (FORMAT csv, HEADER)
COPY t TO STDOUT \; SELECT 'after a copy' AS t \; COPY (SELECT 'a second copy') TO STDOUT;
BEGIN;
COPY t FROM STDIN;
6001	rolled back
\.
SELECT count(*) FROM t WHERE n = 6001;
ROLLBACK;
SELECT count(*) FROM t WHERE n = 6001;

-- Portions by a cursor of psql's own.
\set FETCH_COUNT 100
SELECT n FROM generate_series(1, 250) AS n;
SELECT 1 / (n - 150) FROM generate_series(1, 250) AS n;
\unset FETCH_COUNT

-- Variables from results, queries from results.
SELECT 42 AS answer, 'x y' AS text \gset
SELECT :answer, :'text';
SELECT format('SELECT %s AS generated', n) FROM generate_series(1, 3) AS n \gexec
SELECT n % 2 AS odd, n AS number, 1 AS value FROM generate_series(1, 4) AS n \crosstabview number odd value
\gdesc
SELECT n, v FROM t LIMIT 1 \gdesc

-- Large objects: \lo_export speaks FunctionCall.
SELECT lo_from_bytea(424242, convert_to(repeat('large ', 100000), 'UTF8'));
\lo_export 424242 /dev/null
SELECT length(lo_get(424242));
\lo_unlink 424242
\lo_export 424242 /dev/null

-- Settings that end with their transaction, and those that the server reports.
BEGIN;
SET LOCAL work_mem = '3MB';
SHOW work_mem;
COMMIT;
SHOW client_encoding;
SET client_encoding = 'LATIN1';
SELECT convert_to('é', 'LATIN1') = '\xe9' AS same, length('é');
SET client_encoding = 'UTF8';
SET DateStyle = 'German, DMY';
SELECT date '2001-02-03';
SET TimeZone = 'Asia/Tokyo';
SELECT timestamptz '2001-02-03 04:05:06+00';
SET application_name = 'a script';
SHOW application_name;
RESET DateStyle;
SELECT date '2001-02-03';

-- What the catalog commands of psql ask.
\d t
\dt
\df nothing_like_this
\l nothing_like_this

-- What refuses to run in a transaction block.
VACUUM t;
CREATE INDEX CONCURRENTLY t_v ON t (v);
BEGIN;
VACUUM t;
ROLLBACK;

-- Much output, and one wide row.
SELECT n, repeat('x', 50) FROM generate_series(1, 20000) AS n;
SELECT repeat('wide ', 200000);
\echo the end is reached
