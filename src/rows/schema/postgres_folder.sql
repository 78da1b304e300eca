-- device_test: one row a folder that holds pictures or a stats.json, written once all files that
-- it names are at the remote.
CREATE TABLE IF NOT EXISTS "device_test" (
    mount_id            text NOT NULL,         -- which backing directory, over all machines
    folder              text NOT NULL,         -- path below the mount; '.' for the mount itself
    name                text NOT NULL,         -- last component of folder
    host                text NOT NULL,         -- name of the machine
    test_status         text                   -- NULL: no stats.json
                        CHECK (test_status IN ('pass', 'fail', 'unknown')),
    stats               jsonb,                 -- stats.json; NULL: none, or not valid
    stats_error         text,                  -- what is wrong with stats.json, one sentence
    pictures            jsonb NOT NULL,        -- array by name, of objects with name, url,
                                               -- thumbnail_url, thumbnail_error, bytes, width,
                                               -- height, hash, delivered_at, and, where the
                                               -- remote tells them, object_id, object_version, etag
    picture_count       bigint NOT NULL,
    files               bigint NOT NULL,       -- delivered files, those of folders below not counted
    bytes               bigint NOT NULL,       -- their size
    hash                text NOT NULL,         -- BLAKE3 over the files' names and hashes
    version             bigint NOT NULL,       -- raised by each change in the folder
    first_delivered_at  timestamptz NOT NULL,
    last_delivered_at   timestamptz NOT NULL,
    outboxfs_version    text NOT NULL,         -- which program wrote the row
    PRIMARY KEY (mount_id, folder)
);
