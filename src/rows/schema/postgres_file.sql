-- device_picture and device_file: one row a picture, or a file, of each folder that has a row in
-- device_test, beside which they can be joined by mount_id and folder.
CREATE TABLE IF NOT EXISTS "device_file" (
    mount_id            text NOT NULL,         -- which backing directory, over all machines
    folder              text NOT NULL,         -- path below the mount; '.' for the mount itself
    file                text NOT NULL,         -- its name in the folder
    folder_name         text NOT NULL,         -- last component of folder
    host                text NOT NULL,         -- name of the machine
    test_status         text                   -- of the folder; NULL: no stats.json
                        CHECK (test_status IN ('pass', 'fail', 'unknown')),
    url                 text NOT NULL,         -- of the original; its key where the remote has no URLs
    thumbnail_url       text,                  -- NULL: none
    thumbnail_error     text,                  -- why there is none, one sentence
    bytes               bigint NOT NULL,
    width               integer,               -- pixels as shown; NULL: not known or not a picture
    height              integer,
    hash                text NOT NULL,         -- BLAKE3 of the content
    version             bigint NOT NULL,       -- the folder's: raised by each change in it
    delivered_at        timestamptz NOT NULL,
    object_id           text,                  -- what the remote calls it, if not by its key,
    object_version      text,                  -- and as which of its versions
    etag                text,                  -- the remote's; NULL: it has none
    outboxfs_version    text NOT NULL,         -- which program wrote the row
    PRIMARY KEY (mount_id, folder, file)
);
