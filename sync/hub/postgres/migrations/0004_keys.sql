-- What tells the keys of the hubs beside this database apart, written by the first of them. It opens nothing.
CREATE TABLE hub_key (
    name        text  PRIMARY KEY,
    fingerprint bytea NOT NULL
);
