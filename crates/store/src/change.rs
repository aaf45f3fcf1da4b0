//! What happened to the rows of apps that have webhooks.
//!
//! Triggers write it down in the transaction of the change itself, whoever makes that: an event is neither lost in a
//! crash nor told of something that was rolled back. They are temporary triggers of the writing connection, made at
//! each start from the tables as they are, so no migration can forget a column.

use domain::id::{AccountId, AppId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::add_on::{self, AddOn};
use crate::app::{self, App};
use crate::attachment::{self, Attachment};
use crate::build::{self, Build};
use crate::collaborator::{self, Collaborator};
use crate::custom_domain::{self, Domain};
use crate::dyno::{self, Dyno};
use crate::formation::{self, Formation};
use crate::release::{self, Release};
use crate::row::{collect, first, parsed, parsed_optional, time};
use crate::sni_endpoint::{self, SniEndpoint};
use crate::{Store, StoreError};

/// A table whose changes are written down.
struct Watched {
    table: &'static str,
    /// An update of these is told; of others is not.
    told: &'static [&'static str],
    creates: bool,
    destroys: bool,
}

const WATCHED: [Watched; 10] = [
    Watched { table: "add_on", told: &["name", "plan", "state"], creates: true, destroys: true },
    Watched { table: "attachment", told: &["name"], creates: true, destroys: true },
    // An app's row goes when nothing of it is left; what people call its end is this column.
    Watched {
        table: "app",
        told: &["name", "owner_id", "maintenance", "acm", "destroyed_at"],
        creates: false,
        destroys: false,
    },
    Watched { table: "build", told: &["status"], creates: true, destroys: false },
    Watched { table: "release", told: &["state"], creates: true, destroys: false },
    Watched { table: "formation", told: &["quantity", "size"], creates: true, destroys: true },
    // Rows stay a while after the dyno has ended.
    Watched { table: "dyno", told: &["state"], creates: true, destroys: false },
    Watched { table: "domain", told: &["sni_endpoint_id", "acm_status"], creates: true, destroys: true },
    Watched { table: "collaborator", told: &["permissions"], creates: true, destroys: true },
    Watched { table: "sni_endpoint", told: &["certificate_chain"], creates: true, destroys: true },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Destroy,
}

impl Action {
    const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Destroy];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Destroy => "destroy",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}

/// A row as it was at the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    AddOn(AddOn),
    Attachment(Attachment),
    App(App),
    Build(Build),
    Collaborator(Collaborator),
    Release(Release),
    Formation(Formation),
    Dyno(Dyno),
    Domain(Domain),
    SniEndpoint(SniEndpoint),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub sequence: u64,
    pub app: AppId,
    pub action: Action,
    pub before: Option<Snapshot>,
    pub after: Option<Snapshot>,
    pub account: Option<AccountId>,
    pub at: Timestamp,
}

/// Makes the triggers on the writing connection.
pub(crate) fn watch(connection: &Connection) -> rusqlite::Result<()> {
    for watched in WATCHED {
        let columns = columns(connection, watched.table)?;
        if watched.creates {
            connection.execute_batch(&trigger(&watched, &columns, Action::Create))?;
        }
        connection.execute_batch(&trigger(&watched, &columns, Action::Update))?;
        if watched.destroys {
            connection.execute_batch(&trigger(&watched, &columns, Action::Destroy))?;
        }
    }
    Ok(())
}

/// The columns of a table that hold nothing secret.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE type <> 'BLOB'")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

fn trigger(watched: &Watched, columns: &[String], action: Action) -> String {
    let table = watched.table;
    let object = |alias: &str| {
        let pairs: Vec<String> = columns.iter().map(|column| format!("'{column}', {alias}.{column}")).collect();
        format!("json_object({})", pairs.join(", "))
    };
    let (event, row, before, after) = match action {
        Action::Create => ("INSERT".to_owned(), "NEW", "NULL".to_owned(), object("NEW")),
        Action::Update => (format!("UPDATE OF {}", watched.told.join(", ")), "NEW", object("OLD"), object("NEW")),
        Action::Destroy => ("DELETE".to_owned(), "OLD", object("OLD"), "NULL".to_owned()),
    };
    let (app, of_living_app) = if table == "app" {
        ("id", "OLD.destroyed_at IS NULL".to_owned())
    } else {
        // What goes with its app is told by the end of the app.
        let living = format!("EXISTS (SELECT 1 FROM app WHERE id = {row}.app_id AND destroyed_at IS NULL)");
        ("app_id", living)
    };
    let action = action.as_str();
    format!(
        "CREATE TEMP TRIGGER change_{table}_{action} AFTER {event} ON main.{table}
         WHEN EXISTS (SELECT 1 FROM webhook WHERE app_id = {row}.{app}) AND {of_living_app}
         BEGIN
             INSERT INTO change (app_id, entity, action, before, after, at)
             VALUES ({row}.{app}, '{table}', '{action}', {before}, {after},
                     CAST(unixepoch('subsec') * 1000000 AS INTEGER));
         END"
    )
}

impl Store {
    /// What was written down and is not told yet, oldest first.
    pub fn changes_to_tell(&self, changes_max: u32) -> Result<Vec<Change>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM change ORDER BY sequence LIMIT ?1")?;
            collect(statement.query([changes_max])?, |row| change(db, row))
        })
    }
}

fn change(db: &Connection, row: &Row<'_>) -> Result<Change, StoreError> {
    let entity: String = row.get("entity")?;
    let snapshot = |column: &str| -> Result<Option<Snapshot>, StoreError> {
        let json: Option<String> = row.get(column)?;
        json.map(|json| snapshot(db, &entity, &json)).transpose()
    };
    let sequence: i64 = row.get("sequence")?;
    Ok(Change {
        sequence: u64::try_from(sequence).map_err(|_negative| StoreError::Damaged("sequence"))?,
        app: parsed(row, "app_id", AppId::parse)?,
        action: parsed(row, "action", Action::parse)?,
        before: snapshot("before")?,
        after: snapshot("after")?,
        account: parsed_optional(row, "account_id", AccountId::parse)?,
        at: time(row, "at")?,
    })
}

/// Reads a row back from its JSON, by the same code that reads it from its table.
fn snapshot(db: &Connection, entity: &str, json: &str) -> Result<Snapshot, StoreError> {
    let damaged = StoreError::Damaged("change");
    let Some(watched) = WATCHED.iter().find(|watched| watched.table == entity) else { return Err(damaged) };
    let values: Vec<String> = columns(db, watched.table)?
        .iter()
        .map(|column| format!("json_extract(?1, '$.{column}') AS {column}"))
        .collect();
    let mut statement = db.prepare_cached(&format!("SELECT {}", values.join(", ")))?;
    let read = first(statement.query(params![json])?, |row| {
        Ok(match watched.table {
            "add_on" => Snapshot::AddOn(add_on::add_on(row)?),
            "attachment" => Snapshot::Attachment(attachment::attachment(row)?),
            "app" => Snapshot::App(app::app(row)?),
            "build" => Snapshot::Build(build::build(row)?),
            "release" => Snapshot::Release(release::release(row)?),
            "formation" => Snapshot::Formation(formation::formation(row)?),
            "dyno" => Snapshot::Dyno(dyno::dyno(row)?),
            "collaborator" => Snapshot::Collaborator(collaborator::collaborator(row)?),
            "domain" => Snapshot::Domain(custom_domain::domain(row)?),
            _sni_endpoint => Snapshot::SniEndpoint(sni_endpoint::sni_endpoint(row)?),
        })
    })?;
    read.ok_or(damaged)
}
