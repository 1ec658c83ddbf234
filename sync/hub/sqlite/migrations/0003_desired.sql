-- Raised with every change of what boxes are to have, so that other processes notice.
CREATE TABLE content_change (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    n   INTEGER NOT NULL,
    min_program TEXT NOT NULL DEFAULT ''     -- the oldest release that may follow documents, '': every one
) STRICT;
INSERT INTO content_change (one, n) VALUES (1, 1);

CREATE TABLE notice (
    id       TEXT    PRIMARY KEY,
    severity TEXT    NOT NULL,
    box      INTEGER NOT NULL,               -- 0: for every one
    branch   TEXT    NOT NULL,               -- '': for every one
    begins   TEXT    NOT NULL,
    until    TEXT    NOT NULL,
    text     TEXT    NOT NULL,               -- JSON, by language
    created  TEXT    NOT NULL,
    removed  TEXT    NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX notice_open ON notice (created) WHERE removed = '';

-- Files that boxes are to have.
CREATE TABLE item (
    name    TEXT    NOT NULL,
    box     INTEGER NOT NULL,                -- 0: for every one
    sha256  TEXT    NOT NULL,                -- '': this box is to have no such file
    size    INTEGER NOT NULL,
    created TEXT    NOT NULL,
    PRIMARY KEY (name, box)
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
    sha256   TEXT PRIMARY KEY,
    released TEXT NOT NULL                   -- since when no item names it, '' while one does
) STRICT, WITHOUT ROWID;
CREATE TABLE blob_part (
    sha256 TEXT    NOT NULL REFERENCES blob (sha256),
    n      INTEGER NOT NULL,
    body   BLOB    NOT NULL,
    PRIMARY KEY (sha256, n)
) STRICT;

-- The last document of each box, and what is to be known to make the next one.
CREATE TABLE desired (
    box      INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL,
    highest  INTEGER NOT NULL,               -- number that was ever given to it
    rollback INTEGER NOT NULL,
    core     BLOB    NOT NULL,
    issued   TEXT    NOT NULL,
    expires  TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    sig      BLOB    NOT NULL
) STRICT;
CREATE TABLE desired_version (
    box     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    issued  TEXT    NOT NULL,
    content TEXT    NOT NULL,                -- JSON: its files
    PRIMARY KEY (box, version)
) STRICT, WITHOUT ROWID;
-- Boxes that have leave to go back once.
CREATE TABLE go_back (
    box     INTEGER PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT;

-- Public halves of the keys that boxes seal to. The last one that is not retired is the one to use.
CREATE TABLE seal_key (
    place   INTEGER PRIMARY KEY AUTOINCREMENT,
    public  BLOB    NOT NULL UNIQUE,
    added   TEXT    NOT NULL,
    retired TEXT    NOT NULL DEFAULT ''
) STRICT;
