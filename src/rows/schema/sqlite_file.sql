-- device_picture and device_file: one row a picture, or a file, of each folder that has a row in
-- device_test, beside which they can be joined by mount_id and folder.
CREATE TABLE IF NOT EXISTS "device_file" (
    mount_id            TEXT NOT NULL,     -- which backing directory, over all machines
    folder              TEXT NOT NULL,     -- path below the mount; '.' for the mount itself
    file                TEXT NOT NULL,     -- its name in the folder
    folder_name         TEXT NOT NULL,     -- last component of folder
    host                TEXT NOT NULL,     -- name of the machine
    test_status         TEXT               -- of the folder; NULL: no stats.json
                        CHECK (test_status IN ('pass', 'fail', 'unknown')),
    url                 TEXT NOT NULL,     -- of the original; its key where the remote has no URLs
    thumbnail_url       TEXT,              -- NULL: none
    thumbnail_error     TEXT,              -- why there is none, one sentence
    bytes               INTEGER NOT NULL,
    width               INTEGER,           -- pixels as shown; NULL: not known or not a picture
    height              INTEGER,
    hash                TEXT NOT NULL,     -- BLAKE3 of the content
    version             INTEGER NOT NULL,  -- the folder's: raised by each change in it
    delivered_at        TEXT NOT NULL,     -- RFC 3339 in UTC
    object_id           TEXT,              -- what the remote calls it, if not by its key,
    object_version      TEXT,              -- and as which of its versions
    etag                TEXT,              -- the remote's; NULL: it has none
    outboxfs_version    TEXT NOT NULL,     -- which program wrote the row
    PRIMARY KEY (mount_id, folder, file)
);
