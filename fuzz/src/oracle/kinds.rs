//! Kinds in words that both sides can be written in.

use pg_query::NodeEnum as N;
use pg_query::protobuf::{DefElem, Node, TransactionStmt, VariableSetStmt, a_const::Val};
use pglifeguard::sql::{Kind, Object, Setting, SettingName, Source, Span, Temp, Value};

/// The statement of a tree; `None` where there is nothing to compare.
pub(super) fn of(node: &N) -> Option<String> {
    Some(match node {
        N::SelectStmt(select) if into(select) => "select into".into(),
        N::SelectStmt(_) => "query".into(),
        N::InsertStmt(_) => "insert".into(),
        N::UpdateStmt(_) => "update".into(),
        N::DeleteStmt(_) => "delete".into(),
        N::MergeStmt(_) => "merge".into(),
        N::TransactionStmt(statement) => transaction(statement),
        N::VariableSetStmt(set) => variable(set)?,
        N::VariableShowStmt(show) if show.name == "all" => "show all".into(),
        N::VariableShowStmt(show) => format!("show {}", show.name.to_lowercase()),
        N::ConstraintsSetStmt(_) => "set constraints".into(),
        N::PrepareStmt(prepare) => format!("prepare {}", prepare.name),
        N::ExecuteStmt(execute) => format!("execute {}", execute.name),
        N::DeallocateStmt(one) if one.name.is_empty() => "deallocate all".into(),
        N::DeallocateStmt(one) => format!("deallocate {}", one.name),
        N::DeclareCursorStmt(cursor) => format!("declare {} {}", cursor.portalname, cursor.options & 0x20 != 0),
        N::ClosePortalStmt(close) if close.portalname.is_empty() => "close all".into(),
        N::ClosePortalStmt(close) => format!("close {}", close.portalname),
        N::FetchStmt(fetch) => format!("{} {}", if fetch.ismove { "move" } else { "fetch" }, fetch.portalname),
        N::ListenStmt(listen) => format!("listen {}", listen.conditionname),
        N::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => "unlisten *".into(),
        N::UnlistenStmt(unlisten) => format!("unlisten {}", unlisten.conditionname),
        N::NotifyStmt(notify) => format!("notify {} {}", notify.conditionname, notify.payload),
        N::DiscardStmt(discard) => format!("discard {}", discard.target),
        N::LoadStmt(_) => "load".into(),
        N::LockStmt(_) => "lock".into(),
        N::CopyStmt(copy) => format!("copy {} {} {}", copy.is_from, copy.is_program, copy.filename.is_empty()),
        N::DoStmt(code) => block(&code.args),
        N::CallStmt(_) => "call".into(),
        N::ExplainStmt(explain) => {
            let inner = explain.query.as_ref()?.node.as_ref()?;
            format!("explain {} {}", analyzes(&explain.options), of(inner)?)
        }
        N::CreateStmt(create) => {
            let relation = create.relation.as_ref()?;
            created("Table", &relation.relpersistence, &relation.schemaname, create.oncommit == 4)
        }
        N::CreateForeignTableStmt(_) => "create Table lasting".into(),
        N::CreateTableAsStmt(create) if create.is_select_into => "select into".into(),
        N::CreateTableAsStmt(create) => {
            let into = create.into.as_ref()?;
            let relation = into.rel.as_ref()?;
            let object = if create.objtype == TABLE { "Table" } else { "MaterializedView" };
            created(object, &relation.relpersistence, &relation.schemaname, into.on_commit == 4)
        }
        N::ViewStmt(view) => {
            let relation = view.view.as_ref()?;
            created("View", &relation.relpersistence, &relation.schemaname, false)
        }
        N::CreateSeqStmt(sequence) => {
            let relation = sequence.sequence.as_ref()?;
            created("Sequence", &relation.relpersistence, &relation.schemaname, false)
        }
        N::TruncateStmt(_) => "truncate".into(),
        N::VacuumStmt(vacuum) => if vacuum.is_vacuumcmd { "vacuum" } else { "analyze" }.into(),
        N::ClusterStmt(_) => "cluster".into(),
        N::ReindexStmt(_) => "reindex".into(),
        N::RefreshMatViewStmt(_) => "refresh".into(),
        N::CheckPointStmt(_) => "checkpoint".into(),
        _ => "ddl".into(),
    })
}

const TABLE: i32 = pg_query::protobuf::ObjectType::ObjectTable as i32;

fn into(select: &pg_query::protobuf::SelectStmt) -> bool {
    select.into_clause.is_some() || select.larg.as_ref().is_some_and(|left| into(left))
}

fn created(object: &str, persistence: &str, schema: &str, dropped: bool) -> String {
    let temporary = persistence == "t" || schema.starts_with("pg_temp");
    format!("create {object} {}", if temporary { dropped.to_string() } else { "lasting".into() })
}

fn transaction(statement: &TransactionStmt) -> String {
    let savepoint = &statement.savepoint_name;
    match statement.kind {
        1 | 2 => format!("begin {}", modes(&statement.options)),
        3 => format!("commit {}", statement.chain),
        4 => format!("rollback {}", statement.chain),
        5 => format!("savepoint {savepoint}"),
        6 => format!("release {savepoint}"),
        7 => format!("rollback to {savepoint}"),
        8 => "prepare transaction".into(),
        9 => "commit prepared".into(),
        _ => "rollback prepared".into(),
    }
}

/// Later ones count, as in ours.
fn modes(options: &[Node]) -> String {
    let (mut isolation, mut read_only, mut deferrable) = (None, None, None);
    for option in options.iter().filter_map(element) {
        let arg = option.arg.as_ref().and_then(|arg| constant(arg));
        let on = || arg.as_deref().map(|arg| arg != "0");
        match option.defname.as_str() {
            "transaction_isolation" => isolation = arg.map(|level| level.replace(' ', "")),
            "transaction_read_only" => read_only = on(),
            _ => deferrable = on(),
        }
    }
    format!("{isolation:?} {read_only:?} {deferrable:?}")
}

fn element(node: &Node) -> Option<&DefElem> {
    if let Some(N::DefElem(element)) = &node.node { Some(element) } else { None }
}

/// A constant in words, also below a cast.
fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        N::AConst(value) => match value.val.as_ref() {
            Some(Val::Ival(number)) => Some(number.ival.to_string()),
            Some(Val::Fval(number)) => Some(number.fval.clone()),
            Some(Val::Sval(text)) => Some(text.sval.clone()),
            Some(Val::Boolval(value)) => Some(value.boolval.to_string()),
            _ => None,
        },
        N::String(text) => Some(text.sval.clone()),
        N::Integer(number) => Some(number.ival.to_string()),
        N::Float(number) => Some(number.fval.clone()),
        N::Boolean(value) => Some(value.boolval.to_string()),
        N::TypeCast(_) => Some("<interval>".into()),
        _ => None,
    }
}

fn variable(set: &VariableSetStmt) -> Option<String> {
    let local = set.is_local;
    let name = set.name.to_lowercase();
    Some(match set.kind {
        1 => {
            let values: Vec<_> = set.args.iter().filter_map(constant).collect();
            let values = values.join("|");
            // Words of the grammar, which we give as any other word.
            let values = if name == "xmloption" { values.to_lowercase() } else { values };
            format!("set {local} {name} {values}")
        }
        2 => format!("set {local} {name} default"),
        3 => format!("set {local} {name} current"),
        4 if name == "transaction" => format!("set transaction {}", modes(&set.args)),
        4 if name == "session characteristics" => format!("set characteristics {}", modes(&set.args)),
        4 => "set snapshot".into(),
        5 => format!("reset {name}"),
        6 => "reset all".into(),
        _ => return None,
    })
}

fn block(args: &[Node]) -> String {
    let value = |name: &str| {
        let element = args.iter().filter_map(element).rfind(|element| element.defname == name)?;
        element.arg.as_ref().and_then(|arg| constant(arg))
    };
    format!("do {:?} {:?}", value("as").unwrap_or_default(), value("language"))
}

fn analyzes(options: &[Node]) -> bool {
    let last = options.iter().filter_map(element).rfind(|element| element.defname == "analyze");
    let off = |element: &DefElem| {
        let value = element.arg.as_ref().and_then(|arg| constant(arg)).unwrap_or_default();
        ["0", "off", "false"].contains(&value.to_lowercase().as_str())
    };
    last.is_some_and(|element| !off(element))
}

/// The statement as ours.
pub(super) fn ours(kind: &Kind, source: Source<'_>) -> String {
    let name = |span: &Span| String::from_utf8_lossy(&source.last_part(*span).unwrap_or_default()).into_owned();
    let text = |span: &Span| String::from_utf8_lossy(&source.string(*span).unwrap_or_default()).into_owned();
    match kind {
        Kind::Query => "query".into(),
        Kind::SelectInto(_) => "select into".into(),
        Kind::Begin(modes) => format!("begin {}", our_modes(modes)),
        Kind::Commit(chain) => format!("commit {chain}"),
        Kind::Rollback(chain) => format!("rollback {chain}"),
        Kind::RollbackTo(span) => format!("rollback to {}", name(span)),
        Kind::Savepoint(span) => format!("savepoint {}", name(span)),
        Kind::Release(span) => format!("release {}", name(span)),
        Kind::PrepareTransaction => "prepare transaction".into(),
        Kind::CommitPrepared => "commit prepared".into(),
        Kind::RollbackPrepared => "rollback prepared".into(),
        Kind::Set(set) => our_setting(*set, source),
        Kind::Reset(setting) => format!("reset {}", setting_name(*setting, source)),
        Kind::ResetAll => "reset all".into(),
        Kind::SetTransaction(_, true) => "set snapshot".into(),
        Kind::SetTransaction(modes, false) => format!("set transaction {}", our_modes(modes)),
        Kind::SetCharacteristics(modes) => format!("set characteristics {}", our_modes(modes)),
        Kind::SetConstraints => "set constraints".into(),
        Kind::Show(setting) => format!("show {}", setting_name(*setting, source)),
        Kind::ShowAll => "show all".into(),
        Kind::Prepare { name: of, .. } => format!("prepare {}", name(of)),
        Kind::Execute(span) => format!("execute {}", name(span)),
        Kind::Deallocate(span) => format!("deallocate {}", name(span)),
        Kind::DeallocateAll => "deallocate all".into(),
        Kind::Declare { name: of, hold } => format!("declare {} {hold}", name(of)),
        Kind::Close(span) => format!("close {}", name(span)),
        Kind::CloseAll => "close all".into(),
        Kind::Fetch(span) => format!("fetch {}", name(span)),
        Kind::Move(span) => format!("move {}", name(span)),
        Kind::Listen(span) => format!("listen {}", name(span)),
        Kind::Unlisten(span) => format!("unlisten {}", name(span)),
        Kind::UnlistenAll => "unlisten *".into(),
        Kind::Notify(channel, payload) => {
            format!("notify {} {}", name(channel), payload.as_ref().map(text).unwrap_or_default())
        }
        Kind::Do { body, language } => {
            let language = language.map(|span| source.string(span).map_or_else(|| name(&span), |_| text(&span)));
            format!("do {:?} {language:?}", text(body))
        }
        Kind::Explain { analyze, inner } => format!("explain {analyze} {}", ours(inner, source)),
        other => our_utility(other),
    }
}

fn our_utility(kind: &Kind) -> String {
    use pglifeguard::sql::CopyPlace;
    match kind {
        Kind::Discard(what) => format!("discard {}", [1, 4, 2, 3][*what as usize]),
        Kind::Copy(copy) => {
            format!("copy {} {} {}", copy.from, copy.place == CopyPlace::Program, copy.place == CopyPlace::Client)
        }
        Kind::Create(create) => match create.object {
            object @ (Object::Table | Object::MaterializedView | Object::View | Object::Sequence) => {
                let temp = match create.temp {
                    Temp::No => "lasting",
                    Temp::Session => "false",
                    Temp::Transaction => "true",
                };
                format!("create {object:?} {temp}")
            }
            _ => "ddl".into(),
        },
        Kind::Drop(_) | Kind::Alter(_) | Kind::OtherDdl => "ddl".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn our_modes(modes: &pglifeguard::sql::Modes) -> String {
    use pglifeguard::sql::Isolation as I;
    let isolation = modes.isolation.map(|isolation| match isolation {
        I::Serializable => "serializable",
        I::RepeatableRead => "repeatableread",
        I::ReadCommitted => "readcommitted",
        I::ReadUncommitted => "readuncommitted",
    });
    format!("{isolation:?} {:?} {:?}", modes.read_only, modes.deferrable)
}

fn setting_name(name: SettingName, source: Source<'_>) -> String {
    String::from_utf8_lossy(&name.name(source).unwrap_or_default()).into_owned()
}

fn our_setting(set: Setting, source: Source<'_>) -> String {
    let value = match set.value {
        Value::Default => "default".into(),
        Value::Current => "current".into(),
        Value::Interval(_) => "<interval>".into(),
        Value::List(_) => {
            let items = set.value.items(source).unwrap_or_default();
            items.iter().map(item).collect::<Vec<_>>().join("|")
        }
    };
    format!("set {} {} {value}", set.local, setting_name(set.name, source))
}

/// We keep numbers as they are written.
fn item(item: &pglifeguard::sql::Item<'_>) -> String {
    let text = String::from_utf8_lossy(&item.value).into_owned();
    match text.parse::<i64>() {
        Ok(number) if !item.quoted => number.to_string(),
        _ => text,
    }
}
