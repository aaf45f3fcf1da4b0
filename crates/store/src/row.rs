//! Conversions between columns and domain values, shared by all tables.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::StoreError;

/// A point in time as stored: microseconds since 1970.
pub(crate) struct Micros(pub(crate) Timestamp);

impl FromSql for Micros {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        Timestamp::from_microsecond(micros).map(Self).map_err(|_range| FromSqlError::OutOfRange(micros))
    }
}

impl ToSql for Micros {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_microsecond().into())
    }
}

pub(crate) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get::<_, Micros>(column).map(|micros| micros.0)
}

pub(crate) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<Micros>>(column).map(|micros| micros.map(|micros| micros.0))
}

/// Reads a text column through a parser; a value that does not parse means a damaged database.
pub(crate) fn parsed<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    parse(&text).ok_or(StoreError::Damaged(column))
}

pub(crate) fn parsed_optional<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parse(&text).ok_or(StoreError::Damaged(column))).transpose()
}

/// A number as SQLite has it.
pub(crate) fn number(value: impl TryInto<i64>) -> Result<i64, StoreError> {
    value.try_into().map_err(|_too_large| StoreError::Refused("a number is too large".to_owned()))
}

/// Reads a number that is never negative.
pub(crate) fn unsigned(row: &Row<'_>, column: &'static str) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> = row.get(column)?;
    value.map(u64::try_from).transpose().map_err(|_negative| StoreError::Damaged(column))
}

/// Lists kept in one text column, one item a line.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Collects rows through a mapping that can fail with a [`StoreError`].
pub(crate) fn collect<T>(
    mut rows: rusqlite::Rows<'_>,
    map: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(map(row)?);
    }
    Ok(values)
}

/// The first row, if there is one.
pub(crate) fn first<T>(
    mut rows: rusqlite::Rows<'_>,
    map: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    rows.next()?.map(map).transpose()
}
