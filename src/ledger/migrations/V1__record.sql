-- One row for each entry. Rows are only ever added. `service` and `kind` say again what the body says, for people who look with SQL.
-- `digest` is the SHA-256 of the digest before it and of the row, so that a changed row is told from a true one.
CREATE TABLE record (
    seq INTEGER PRIMARY KEY CHECK (seq > 0),
    at TEXT NOT NULL,
    service TEXT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;
