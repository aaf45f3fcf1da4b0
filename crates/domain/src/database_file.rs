//! Files that look like a database of the app's own, which an ephemeral disk loses.

use std::path::Path;

/// Whether a file name is one that SQLite's users give their databases.
pub fn is_database_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("sqlite3" | "sqlite" | "db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_their_names() {
        for (name, expect) in
            [("db.sqlite3", true), ("data/app.sqlite", true), ("app.db", true), ("db.py", false), (".db", false)]
        {
            assert_eq!(is_database_file(Path::new(name)), expect, "{name}");
        }
    }
}
