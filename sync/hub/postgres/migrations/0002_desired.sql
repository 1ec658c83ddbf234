-- Raised with every change of what boxes are to have, so that other hubs notice. Its row is held by who changes it.
CREATE TABLE content_change (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    n   bigint  NOT NULL,
    min_program text NOT NULL DEFAULT ''         -- the oldest release that may follow documents, '': every one
);
INSERT INTO content_change (n) VALUES (1);

CREATE TABLE notice (
    id       text        PRIMARY KEY,
    severity text        NOT NULL,
    box      bigint      NOT NULL,               -- 0: for every one
    branch   text        NOT NULL,               -- '': for every one
    begins   timestamptz,
    until    timestamptz,
    text     bytea       NOT NULL,               -- JSON, by language
    created  timestamptz NOT NULL,
    removed  timestamptz
);
CREATE INDEX notice_open ON notice (created) WHERE removed IS NULL;

-- Files that boxes are to have.
CREATE TABLE item (
    name    text        NOT NULL,
    box     bigint      NOT NULL,                -- 0: for every one
    sha256  text        NOT NULL,                -- '': this box is to have no such file
    size    bigint      NOT NULL,
    created timestamptz NOT NULL,
    PRIMARY KEY (name, box)
);

CREATE TABLE blob (
    sha256   text PRIMARY KEY,
    released timestamptz                         -- since when no item names it, NULL while one does
);
CREATE TABLE blob_part (
    sha256 text    NOT NULL REFERENCES blob (sha256) ON DELETE CASCADE,
    n      integer NOT NULL,
    body   bytea   NOT NULL,
    PRIMARY KEY (sha256, n)
);
ALTER TABLE blob_part ALTER COLUMN body SET STORAGE EXTERNAL; -- files are compressed already

-- The last document of each box, and what is to be known to make the next one.
CREATE TABLE desired (
    box      bigint      PRIMARY KEY,
    version  bigint      NOT NULL,
    highest  bigint      NOT NULL,               -- number that was ever given to it
    rollback bigint      NOT NULL,
    core     bytea       NOT NULL,
    issued   timestamptz NOT NULL,
    expires  timestamptz NOT NULL,
    body     bytea       NOT NULL,
    sig      bytea       NOT NULL
);
CREATE TABLE desired_version (
    box     bigint      NOT NULL,
    version bigint      NOT NULL,
    issued  timestamptz NOT NULL,
    content bytea       NOT NULL,                -- JSON: its files
    PRIMARY KEY (box, version)
);
-- Boxes that have leave to go back once.
CREATE TABLE go_back (
    box     bigint PRIMARY KEY,
    version bigint NOT NULL
);

-- Public halves of the keys that boxes seal to. The last one that is not retired is the one to use.
CREATE TABLE seal_key (
    place   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public  bytea       NOT NULL UNIQUE,
    added   timestamptz NOT NULL,
    retired timestamptz
);
