//! Reads the catalog of a database over a server of its. That is left as it was: what is set here ends with the query.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::catalog::{Catalog, Danger, Draft, Function, Reached};
use super::deeds::Name;
use crate::server::Server;
use crate::server::simple::{Row, SimpleError, rows};

/// What tells whether a catalog is still the same: cheap to read, and another after every change that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Box<[u8]>);

impl From<&str> for Fingerprint {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

/// Reads the fingerprint, within this time; and another one of all that may give a text another meaning: tables, their
/// columns, rights.
///
/// # Errors
/// See [`SimpleError`]; after anything but `Refused` the server must be closed.
pub async fn fingerprint(server: &mut Server, limit: Duration) -> Result<(Fingerprint, Fingerprint), SimpleError> {
    let rows = rows(server, &[&settings(limit), FINGERPRINT].concat(), Some(limit)).await?;
    let row = rows.into_iter().next().and_then(|row| <[_; 2]>::try_from(row).ok());
    match row {
        Some([Some(functions), Some(all)]) => {
            let all = [&*functions, b" ", &all].concat().into();
            Ok((Fingerprint(functions), Fingerprint(all)))
        }
        _ => Err(SimpleError::Unexpected("no fingerprint")),
    }
}

/// Reads what there is to know, within this time altogether; functions of the `trusted` names count as clean. What changes
/// meanwhile may be in it or not.
///
/// # Errors
/// See [`SimpleError`]; after anything but `Refused` the server must be closed.
pub async fn load(server: &mut Server, trusted: Arc<[Name]>, limit: Duration) -> Result<Catalog, SimpleError> {
    let begun = Instant::now();
    let left = || Some(limit.saturating_sub(begun.elapsed()));
    let settings = settings(limit);
    let functions = rows(server, &[&settings, FUNCTIONS].concat(), left()).await?;
    let mut draft = Draft::trusting(trusted);
    for (count, row) in functions.into_iter().enumerate() {
        draft.add(function(row).ok_or(SimpleError::Unexpected("a row of no function"))?);
        if count % AT_ONCE == 0 {
            others_first().await;
        }
    }
    draft.close();
    let callers = rows(server, &[&settings, CALLERS].concat(), left()).await?;
    let callers = callers.into_iter().map(caller).collect::<Option<Vec<_>>>();
    let callers = callers.ok_or(SimpleError::Unexpected("a row of no caller"))?;
    loop {
        let query = [&*settings, &reached(&draft, &callers)].concat();
        let reached = rows(server, &query, left()).await?;
        let reached = reached.into_iter().map(reached_by).collect::<Option<Vec<_>>>();
        // Functions that name what was found are dangerous as well, and others may depend on them.
        if !draft.reaches(reached.ok_or(SimpleError::Unexpected("a row of no object"))?) {
            return Ok(draft.finish());
        }
    }
}

/// So many functions are judged in a fraction of a millisecond.
const AT_ONCE: usize = 32;

/// Has whoever else uses this thread go on first.
async fn others_first() {
    let mut been = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut been, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn function(row: Row) -> Option<Function> {
    let [oid, name, language, volatile, procedure, attribute, extension, body] = <[_; 8]>::try_from(row).ok()?;
    let is = |value: Option<Box<[u8]>>| value.as_deref() == Some(b"t");
    Some(Function {
        oid: text(oid?)?,
        name: unescaped(&name?)?,
        language: text(language?)?,
        volatile: is(volatile),
        procedure: is(procedure),
        attribute: is(attribute),
        extension: extension.and_then(text),
        body: match body {
            Some(body) => Some(unescaped(&body)?),
            None => None,
        },
    })
}

fn text(value: Box<[u8]>) -> Option<Box<str>> {
    String::from_utf8(value.into_vec()).ok().map(String::into_boxed_str)
}

/// The numbers of a class of objects, of one of them, and of the kind of danger there.
type Caller = (Box<str>, Box<str>, Box<str>);

fn caller(row: Row) -> Option<Caller> {
    let [class, object, danger] = <[_; 3]>::try_from(row).ok()?;
    Some((text(class?)?, text(object?)?, text(danger?)?))
}

fn reached(draft: &Draft, callers: &[Caller]) -> String {
    let function = |(oid, danger): (&str, Danger)| danger.kinds().map(|kind| (oid.into(), kind)).collect::<Vec<_>>();
    let functions: Vec<(Box<str>, u64)> = draft.dangerous().flat_map(function).collect();
    let list = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join(",");
    REACHED
        .replace("$FUNCTIONS", &list(&mut functions.iter().map(|(oid, _)| oid.to_string())))
        .replace("$KINDS", &list(&mut functions.iter().map(|(_, kind)| kind.to_string())))
        .replace("$CLASSES", &list(&mut callers.iter().map(|(class, ..)| class.to_string())))
        .replace("$OBJECTS", &list(&mut callers.iter().map(|(_, object, _)| object.to_string())))
        .replace("$DANGERS", &list(&mut callers.iter().map(|(.., danger)| danger.to_string())))
}

fn reached_by(row: Row) -> Option<(Reached, Danger)> {
    let [kind, danger, name] = <[_; 3]>::try_from(row).ok()?;
    let name = unescaped(&name?)?;
    let reached = match &*kind? {
        b"relation" => Reached::Relation(name),
        b"type" => Reached::Type(str::from_utf8(&name).ok()?.parse().ok()?),
        b"function" => Reached::Function(name),
        b"ddl" => Reached::Ddl,
        _ => Reached::Anything,
    };
    Some((reached, Danger::of_kind(text(danger?)?.parse().ok()?)))
}

/// The bytes behind `encode(…, 'escape')`.
fn unescaped(mut text: &[u8]) -> Option<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        text = rest;
        match (first, rest) {
            (b'\\', [b'\\', rest @ ..]) => {
                bytes.push(b'\\');
                text = rest;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                text = rest;
            }
            (b'\\', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    Some(bytes.into())
}

/// For one query only, since several statements in one are one transaction: names and operators are PostgreSQL's own,
/// whatever the session's settings are, and what else it has set does not count. A timeout that runs already ends with the
/// first of these two; it would not be set anew otherwise. The server's limit ends before ours: it is of use after that.
/// There are few of them, for the sake of pg_stat_statements.
fn settings(limit: Duration) -> String {
    let millis = (limit.as_millis() * 3 / 4 / 250 * 250).max(100);
    format!(
        "SET LOCAL statement_timeout TO 0; SET LOCAL search_path TO pg_catalog, pg_temp; \
         SET LOCAL statement_timeout TO {millis}; SET LOCAL jit TO off; "
    )
}

/// One value, made of which version of a row is there, for every row that a catalog is made of. What hangs on temporary
/// tables is nobody else's, and comes and goes.
const FINGERPRINT: &str = "\
WITH temporary AS (SELECT c.oid FROM pg_class c WHERE c.relpersistence = 't') \
SELECT concat_ws(' ', \
  (SELECT coalesce(hash_array(array_agg(p.xmin)), 0) FROM pg_proc p WHERE p.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(c.relname)), 0) FROM pg_class c \
    WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind NOT IN ('t', 'S')), \
  (SELECT coalesce(hash_array(array_agg(t.xmin)), 0) FROM pg_trigger t WHERE NOT t.tgisinternal), \
  (SELECT coalesce(hash_array(array_agg(r.xmin)), 0) FROM pg_rewrite r WHERE r.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(p.xmin)), 0) FROM pg_policy p), \
  (SELECT coalesce(hash_array(array_agg(e.xmin)), 0) FROM pg_event_trigger e), \
  (SELECT coalesce(hash_array(array_agg(a.xmin)), 0) FROM pg_attrdef a \
    WHERE a.adrelid NOT IN (SELECT oid FROM temporary)), \
  (SELECT coalesce(hash_array(array_agg(c.xmin)), 0) FROM pg_constraint c \
    WHERE c.oid >= 16384 AND c.contype IN ('c', 'f') AND c.conrelid NOT IN (SELECT oid FROM temporary)), \
  (SELECT coalesce(hash_array(array_agg(t.xmin)), 0) FROM pg_type t \
    WHERE t.oid >= 16384 AND t.typrelid = 0 AND t.typelem = 0), \
  (SELECT coalesce(hash_array(array_agg(ARRAY[d.objid, d.refobjid] ORDER BY d.objid, d.refobjid)), 0) FROM pg_depend d \
    WHERE d.refclassid = 'pg_type'::regclass AND d.classid = 'pg_class'::regclass \
      AND d.objid NOT IN (SELECT oid FROM temporary)), \
  (SELECT coalesce(hash_array(array_agg(i.xmin)), 0) FROM pg_inherits i), \
  (SELECT coalesce(hash_array(array_agg(s.xmin)), 0) FROM pg_statistic_ext s), \
  (SELECT coalesce(hash_array(array_agg(o.xmin)), 0) FROM pg_operator o WHERE o.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(o.xmin)), 0) FROM pg_opclass o WHERE o.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(a.xmin)), 0) FROM pg_amproc a WHERE a.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(c.xmin)), 0) FROM pg_cast c WHERE c.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(c.xmin)), 0) FROM pg_conversion c WHERE c.oid >= 16384), \
  (SELECT coalesce(hash_array(array_agg(l.xmin)), 0) FROM pg_language l), \
  (SELECT coalesce(hash_array(array_agg(e.xmin)), 0) FROM pg_extension e)), \
concat_ws(' ', \
  (SELECT coalesce(hash_array(array_agg(c.xmin)), 0) FROM pg_class c \
    WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')), \
  (SELECT coalesce(hash_array(array_agg(a.xmin)), 0) FROM pg_attribute a \
    WHERE a.attrelid >= 16384 AND a.attnum > 0 AND a.attrelid NOT IN (SELECT oid FROM temporary)), \
  (SELECT coalesce(hash_array(array_agg(n.xmin)), 0) FROM pg_namespace n \
    WHERE n.oid >= 16384 AND n.nspname !~ '^pg_(toast_)?temp_'), \
  (SELECT coalesce(hash_array(array_agg(m.xmin)), 0) FROM pg_auth_members m), \
  (SELECT coalesce(hash_array(array_agg(concat(r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls))), 0) FROM pg_roles r))";

/// Functions that did not come with PostgreSQL. Text comes in the database's own encoding, and as ASCII, whatever
/// `client_encoding` is.
const FUNCTIONS: &str = "\
SELECT p.oid, \
  pg_catalog.encode(pg_catalog.convert_to(p.proname::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'escape'), \
  l.lanname, p.provolatile = 'v' OR p.prorettype = 'pg_catalog.void'::pg_catalog.regtype, p.prokind = 'p', \
  p.pronargs >= 1 AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0] \
    AND (t.typtype IN ('c', 'p') OR t.typrelid <> 0)), \
  e.extname, \
  CASE WHEN pg_catalog.octet_length(p.prosrc) <= 4000000 THEN pg_catalog.encode(pg_catalog.convert_to( \
    p.prosrc, pg_catalog.getdatabaseencoding()), 'escape') END \
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid \
    AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
WHERE p.oid >= 16384";

/// What calls PostgreSQL's own functions that touch the session (1), also lastingly (17), ask for its numbers (8) or lock (32),
/// or names its own view that sets what is written to it: no dependency on those is recorded, but expressions have their
/// numbers. (`prosqlbody` is NULL by `older` where `pg_proc` has no such column, before PostgreSQL 14.)
const CALLERS: &str = "\
WITH own AS ( \
  SELECT p.oid, CASE WHEN p.proname IN ('lastval', 'currval') THEN 8 WHEN p.proname ~ lasting THEN 17 \
    WHEN p.proname ~ '^pg_.*advisory_' THEN 32 ELSE 1 END AS danger \
  FROM pg_proc p, (VALUES ('^pg_(backup_start|start_backup|replication_origin_session_setup|(create|copy)_.*al_replication_slot)$')) \
    lasts (lasting) \
  WHERE p.oid < 16384 AND (p.proname IN ('set_config', 'setseed', 'ts_stat', 'ts_rewrite', 'lastval', 'currval', \
    'pg_import_system_collations') \
    OR p.proname ~ '_to_xml' OR p.proname ~ lasting OR (p.proname ~ '^pg_.*advisory_' AND p.proname !~ 'xact_')) \
), pattern AS ( \
  SELECT '(funcid (' || string_agg(own.oid::text, '|') || ')|relid ' || 'pg_settings'::regclass::oid || ') ' AS calls \
    FROM own \
), each AS ( \
  SELECT own.danger, '(funcid (' || string_agg(own.oid::text, '|') || ')' \
      || CASE own.danger WHEN 1 THEN '|relid ' || 'pg_settings'::regclass::oid ELSE '' END || ') ' AS calls \
    FROM own GROUP BY own.danger \
), found (class, object, code) AS ( \
  SELECT 'pg_rewrite'::regclass::oid, r.oid, concat_ws(' ', r.ev_action::text, r.ev_qual::text) FROM pg_rewrite r, pattern \
      WHERE r.oid >= 16384 AND (r.ev_action::text ~ calls OR r.ev_qual::text ~ calls) \
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, concat_ws(' ', p.defaults, p.body) \
    FROM pattern, (VALUES (NULL::text)) older (prosqlbody), LATERAL ( \
        SELECT q.oid, q.proargdefaults::text AS defaults, prosqlbody::text AS body FROM pg_proc q WHERE q.oid >= 16384) p \
      WHERE p.defaults ~ calls OR p.body ~ calls \
  UNION ALL SELECT 'pg_attrdef'::regclass, a.oid, a.adbin::text FROM pg_attrdef a, pattern WHERE a.adbin::text ~ calls \
  UNION ALL SELECT 'pg_constraint'::regclass, c.oid, c.conbin::text FROM pg_constraint c, pattern \
      WHERE c.conbin::text ~ calls \
  UNION ALL SELECT 'pg_policy'::regclass, p.oid, concat_ws(' ', p.polqual::text, p.polwithcheck::text) \
      FROM pg_policy p, pattern WHERE p.polqual::text ~ calls OR p.polwithcheck::text ~ calls \
  UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typdefaultbin::text FROM pg_type t, pattern \
      WHERE t.typdefaultbin::text ~ calls \
  UNION ALL SELECT 'pg_trigger'::regclass, t.oid, t.tgqual::text FROM pg_trigger t, pattern WHERE t.tgqual::text ~ calls \
) \
SELECT found.class, found.object, each.danger FROM found JOIN each ON found.code ~ each.calls \
UNION ALL SELECT 'pg_operator'::regclass, o.oid, own.danger FROM pg_operator o, own \
    WHERE o.oid >= 16384 AND o.oprcode = own.oid \
UNION ALL SELECT 'pg_cast'::regclass, c.oid, own.danger FROM pg_cast c, own WHERE c.oid >= 16384 AND c.castfunc = own.oid \
UNION ALL SELECT 'pg_proc'::regclass, a.aggfnoid::oid, own.danger FROM pg_aggregate a, own \
    WHERE a.aggfnoid::oid >= 16384 AND own.oid IN (a.aggtransfn, a.aggfinalfn)";

/// What depends on the functions `$FUNCTIONS`, or on the objects `$OBJECTS` of `$CLASSES`, and by which kind of danger. From
/// a relation on only what reads it or writes it unseen: views, rules, policies, functions; its parents, and where a foreign
/// key cascades, those referenced. Where the type of a column runs code, so does that of its rows.
const REACHED: &str = "\
WITH RECURSIVE reached (class, object, danger) AS ( \
  SELECT 'pg_proc'::regclass::oid, f.oid, f.danger \
    FROM unnest('{$FUNCTIONS}'::oid[], '{$KINDS}'::bigint[]) f (oid, danger) \
  UNION SELECT c.class, c.object, c.danger \
    FROM unnest('{$CLASSES}'::oid[], '{$OBJECTS}'::oid[], '{$DANGERS}'::bigint[]) c (class, object, danger) \
  UNION SELECT next.class, next.object, r.danger FROM reached r CROSS JOIN LATERAL ( \
    SELECT d.classid AS class, d.objid AS object FROM pg_depend d \
      WHERE d.refclassid = r.class AND d.refobjid = r.object AND (r.class IN ('pg_proc'::regclass, 'pg_type'::regclass) \
        OR (r.class = 'pg_class'::regclass \
          AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass))) \
    UNION ALL SELECT 'pg_class'::regclass, t.tgrelid FROM pg_trigger t \
      WHERE r.class = 'pg_trigger'::regclass AND t.oid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, w.ev_class FROM pg_rewrite w \
      WHERE r.class = 'pg_rewrite'::regclass AND w.oid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, a.adrelid FROM pg_attrdef a \
      WHERE r.class = 'pg_attrdef'::regclass AND a.oid = r.object \
    UNION ALL SELECT CASE c.conrelid WHEN 0 THEN 'pg_type'::regclass ELSE 'pg_class'::regclass END, \
        CASE c.conrelid WHEN 0 THEN c.contypid ELSE c.conrelid END FROM pg_constraint c \
      WHERE r.class = 'pg_constraint'::regclass AND c.oid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, p.polrelid FROM pg_policy p \
      WHERE r.class = 'pg_policy'::regclass AND p.oid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, s.stxrelid FROM pg_statistic_ext s \
      WHERE r.class = 'pg_statistic_ext'::regclass AND s.oid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, i.indrelid FROM pg_index i \
      WHERE r.class = 'pg_class'::regclass AND i.indexrelid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, i.inhparent FROM pg_inherits i \
      WHERE r.class = 'pg_class'::regclass AND i.inhrelid = r.object \
    UNION ALL SELECT 'pg_class'::regclass, c.confrelid FROM pg_constraint c \
      WHERE r.class = 'pg_class'::regclass AND c.conrelid = r.object AND c.contype = 'f' \
        AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')) \
    UNION ALL SELECT 'pg_type'::regclass, c.reltype FROM pg_depend d JOIN pg_class c ON c.oid = d.objid \
      WHERE r.class = 'pg_type'::regclass AND d.refclassid = r.class AND d.refobjid = r.object \
        AND d.classid = 'pg_class'::regclass AND c.reltype <> 0 \
  ) next \
) \
SELECT found.kind, found.danger, encode(convert_to(found.name, getdatabaseencoding()), 'escape') FROM ( \
  SELECT 'relation' AS kind, r.danger, c.relname::text AS name FROM reached r JOIN pg_class c ON c.oid = r.object \
    WHERE r.class = 'pg_class'::regclass AND c.relkind NOT IN ('i', 'I') \
  UNION SELECT 'relation', r.danger, t.typname::text FROM reached r JOIN pg_type t ON t.oid = r.object \
    WHERE r.class = 'pg_type'::regclass \
  UNION SELECT 'type', r.danger, r.object::text FROM reached r WHERE r.class = 'pg_type'::regclass \
  UNION SELECT 'function', r.danger, p.proname::text FROM reached r JOIN pg_proc p ON p.oid = r.object \
    WHERE r.class = 'pg_proc'::regclass \
  UNION SELECT 'ddl', r.danger, '' FROM reached r WHERE r.class = 'pg_event_trigger'::regclass \
  UNION SELECT 'anything', r.danger, '' FROM reached r WHERE r.class IN ('pg_operator'::regclass, 'pg_cast'::regclass, \
    'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass, \
    'pg_conversion'::regclass, 'pg_transform'::regclass) \
) found";
