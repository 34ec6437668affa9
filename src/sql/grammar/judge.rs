//! From what a statement is and what was seen in it to what it does.

use super::super::effects::Effects;
use super::kind::{Create, Kind, Object, Temp};
use super::walk::Seen;

/// Whether a body in the form BEGIN ATOMIC … END may follow.
pub(super) fn is_routine(kind: &Kind) -> bool {
    matches!(kind, Kind::Create(Create { object: Object::Routine, .. }))
}

/// The kind, with what only the rest of the statement told.
pub(super) fn kind(kind: Kind, seen: &Seen) -> Kind {
    match kind {
        Kind::Query if seen.into => Kind::SelectInto(seen.into_temp || seen.temp_name),
        Kind::Create(create) => {
            let temporary = create.temp != Temp::No || seen.temp_name;
            let temp = match (temporary, seen.drop_on_commit) {
                (false, _) => Temp::No,
                (true, false) => Temp::Session,
                (true, true) => Temp::Transaction,
            };
            let table = create.object == Object::Table;
            let executes = seen.executes.filter(|_| table);
            Kind::Create(Create { temp, query: table && seen.as_query, executes, ..create })
        }
        Kind::Explain { analyze, inner } => Kind::Explain { analyze, inner: Box::new(self::kind(*inner, seen)) },
        other => other,
    }
}

/// What a statement of this kind does, in which this was seen.
pub(super) fn effects(kind: &Kind, seen: &Seen) -> Effects {
    // What EXPLAIN only plans does nothing.
    let runs = !matches!(kind, Kind::Explain { analyze: false, .. } | Kind::Prepare { .. });
    of_kind(kind, seen)
        | Effects::WRITES.when(seen.writes && runs)
        | Effects::LOCKS.when(seen.locks && runs)
        | Effects::TEMPORARY.when(seen.temp_name || seen.into_temp)
        | Effects::UNSURE.when(seen.unsure || seen.broken)
}

fn of_kind(kind: &Kind, seen: &Seen) -> Effects {
    use Effects as E;
    match kind {
        Kind::Query => E::CANCELLABLE,
        Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => E::WRITES | E::CANCELLABLE,
        Kind::SelectInto(temp) => E::WRITES | E::DDL | E::CANCELLABLE | (E::SESSION | E::TEMPORARY).when(*temp),
        Kind::Begin(_) => E::BEGINS,
        Kind::Commit(chain) | Kind::Rollback(chain) => E::ENDS | E::BEGINS.when(*chain),
        Kind::PrepareTransaction => E::ENDS | E::WRITES,
        Kind::CommitPrepared | Kind::RollbackPrepared => E::NO_BLOCK | E::WRITES,
        Kind::RollbackTo(_) | Kind::Savepoint(_) | Kind::Release(_) => E::NONE,
        Kind::Set(_) | Kind::Reset(_) | Kind::ResetAll | Kind::SetCharacteristics(_) => E::SESSION,
        Kind::SetTransaction(..) | Kind::SetConstraints => E::NONE,
        Kind::Show(_) | Kind::ShowAll => E::SESSION,
        Kind::Prepare { .. } | Kind::Deallocate(_) | Kind::DeallocateAll => E::SESSION,
        Kind::Execute(_) | Kind::Fetch(_) | Kind::Move(_) => E::SESSION | E::ELSEWHERE | E::CANCELLABLE,
        Kind::Declare { .. } | Kind::Close(_) | Kind::CloseAll | Kind::Load => E::SESSION,
        Kind::Listen(_) | Kind::Unlisten(_) | Kind::UnlistenAll => E::SESSION,
        Kind::Notify(..) => E::WRITES,
        Kind::Discard(super::Discard::All) => E::SESSION | E::NO_BLOCK,
        Kind::Discard(_) => E::SESSION,
        Kind::Lock => E::LOCKS | E::CANCELLABLE,
        Kind::Copy(copy) => E::CANCELLABLE | E::WRITES.when(copy.from || copy.place != super::CopyPlace::Client),
        Kind::Do { .. } => E::CODE | E::WRITES | E::MAYBE_NO_BLOCK | E::CANCELLABLE,
        Kind::Call => E::ELSEWHERE | E::WRITES | E::MAYBE_NO_BLOCK | E::CANCELLABLE,
        Kind::Create(_) | Kind::Drop(_) | Kind::Alter(_) => objects(kind, seen),
        Kind::Truncate | Kind::OtherDdl | Kind::Refresh => E::WRITES | E::DDL,
        Kind::Vacuum => E::WRITES | E::NO_BLOCK,
        Kind::Analyze => E::WRITES,
        Kind::Cluster | Kind::Reindex => E::WRITES | E::DDL | E::MAYBE_NO_BLOCK | E::NO_BLOCK.when(seen.concurrently),
        Kind::Checkpoint => E::WRITES,
        Kind::Explain { analyze: true, inner } => of_kind(inner, seen),
        // EXPLAIN EXECUTE plans what is prepared; the others are planned in the words at hand.
        Kind::Explain { inner, .. } => E::CANCELLABLE | E::SESSION.when(matches!(**inner, Kind::Execute(_))),
        Kind::Unknown => E::UNSURE,
    }
}

fn objects(kind: &Kind, seen: &Seen) -> Effects {
    use Effects as E;
    let (object, temp, create) = match kind {
        Kind::Create(create) => (create.object, create.temp, true),
        Kind::Drop(object) | Kind::Alter(object) => (*object, Temp::No, false),
        _ => (Object::Other, Temp::No, false),
    };
    let refuses = match object {
        Object::Database | Object::Tablespace if !matches!(kind, Kind::Alter(_)) => true,
        Object::Database => seen.set_tablespace,
        Object::System => true,
        Object::Index | Object::Table => seen.concurrently,
        _ => false,
    };
    // With a slot on the publisher it refuses; an enum's new value did before version 12, and its use does.
    let may_refuse = object == Object::Subscription;
    E::WRITES
        | E::DDL
        | E::NO_BLOCK.when(refuses)
        | E::MAYBE_NO_BLOCK.when(may_refuse)
        | (E::SESSION | E::TEMPORARY).when(create && temp != Temp::No)
}
