PRAGMA application_id = 1868724326;
PRAGMA user_version = 1;
CREATE TABLE meta (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    directory  BLOB    NOT NULL,            -- its path when last opened
    device     INTEGER NOT NULL,            -- st_dev and st_ino of it
    inode      INTEGER NOT NULL,
    mount_id   TEXT    NOT NULL,            -- made once; tells rows of different mounts apart
    -- Set when a daemon begins, cleared when one ends with nothing left: a mount of a directory
    -- that was never mounted may refuse on a bad remote, later ones may not.
    mounted_at INTEGER,
    -- Whether the last mount had a row sink. Without one, rows wait for a mount that has, and nobody
    -- waits for them.
    has_rows   INTEGER NOT NULL DEFAULT 0,
    -- The run of the machine (/proc/sys/kernel/random/boot_id) in which the directory was mounted.
    -- NULL after an end that left everything on disk. Another run than now: the machine went down
    -- under the mount.
    boot       TEXT,
    -- Set when that is found, until the scan that follows is through: files that changed before this
    -- time and are not as recorded may be damaged.
    crashed_at INTEGER,
    -- The damaged journal that this one replaces, kept aside; NULL again after the next start. Until
    -- the first scan is through, what it finds is compared with the remote before it is sent.
    replaces   TEXT,
    rebuilding INTEGER NOT NULL DEFAULT 0,
    -- Whether the last mount deleted at the remote what was deleted here, and the globs of what goes
    -- first, a line each.
    sync_deletes INTEGER NOT NULL DEFAULT 0,
    priority   TEXT    NOT NULL DEFAULT '',
    -- Folders at the remote, a line each, that thumbnails of further sizes were ever delivered to:
    -- what is deleted is deleted there too.
    thumbnails TEXT    NOT NULL DEFAULT '',
    -- What `delivered` is said of, without how to get there; NULL: nothing was delivered yet.
    remote     TEXT,
    paused     INTEGER NOT NULL DEFAULT 0,  -- 1: nothing is claimed until somebody says so
    syncs      INTEGER NOT NULL DEFAULT 0   -- written by fsync, so that its commit has a page to sync
);
CREATE TABLE folder (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    parent_id     INTEGER REFERENCES folder (id),   -- NULL for the backing directory (id 1) only
    name          BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    content_hash  BLOB,                             -- of its delivered files, at the end of the last batch
    -- The stats row of the folder. It has one once a picture or a stats.json was delivered in it.
    -- Raised by each change of what the row shows, to the time at least: a folder that is removed and
    -- made again goes on from where the sink is. 0: has no row.
    row_version   INTEGER NOT NULL DEFAULT 0,
    row_delivered INTEGER NOT NULL DEFAULT 0,       -- the version that the sink has; 0: none
    row_state     INTEGER NOT NULL DEFAULT 0,       -- 0 none or delivered, 1 queued, 2 failed, 3 claimed
    row_due       INTEGER NOT NULL DEFAULT 0,       -- not before this time
    row_attempts  INTEGER NOT NULL DEFAULT 0,
    row_error     TEXT,
    row_failed_at INTEGER,
    -- Totals of all from this folder on down, so that what is below any folder is known without counting.
    -- Written by journal/tally.rs alone, from what the triggers below note, before each commit.
    files         INTEGER NOT NULL DEFAULT 0,       -- all; delivered = files - queued - failed - suspect
    bytes         INTEGER NOT NULL DEFAULT 0,
    queued_files  INTEGER NOT NULL DEFAULT 0,       -- queued or claimed
    queued_bytes  INTEGER NOT NULL DEFAULT 0,
    failed_files  INTEGER NOT NULL DEFAULT 0,
    failed_bytes  INTEGER NOT NULL DEFAULT 0,
    suspect_files INTEGER NOT NULL DEFAULT 0,
    suspect_bytes INTEGER NOT NULL DEFAULT 0,
    queued_rows   INTEGER NOT NULL DEFAULT 0,
    failed_rows   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (parent_id, name)
);
CREATE TABLE file (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    folder_id       INTEGER NOT NULL REFERENCES folder (id),
    name            BLOB    NOT NULL,
    version         INTEGER NOT NULL,             -- raised by each change
    delivered       INTEGER NOT NULL DEFAULT 0,   -- the version at the remote; 0: none
    occupied        INTEGER NOT NULL DEFAULT 0,   -- 1: under this path the remote has an object, or may have
    size            INTEGER NOT NULL,             -- as of the last change or delivery
    mtime_ns        INTEGER NOT NULL,
    inode           INTEGER NOT NULL,
    opened          INTEGER NOT NULL DEFAULT 0,   -- 1: opened for writing, nothing journaled since
    kind            INTEGER NOT NULL DEFAULT 0,   -- of the delivered content: 0 other, 1 picture, 2 stats.json
    width           INTEGER,                      -- of a picture, upright, pixels
    height          INTEGER,
    hash            BLOB,                         -- BLAKE3 of what is at the remote; NULL: not known for sure
    etag            TEXT,                         -- the remote's proof
    object_id       TEXT,                         -- what the remote calls it, if not by its key,
    object_version  TEXT,                         -- and as which of its versions
    url             TEXT,                         -- where readers find it, if the remote made that URL,
    thumbnail_url   TEXT,                         -- and its thumbnail
    delivered_at    INTEGER,
    thumbnail       INTEGER NOT NULL DEFAULT 0,   -- 0 none, 1 delivered, 2 failed
    thumbnail_error TEXT,
    UNIQUE (folder_id, name)
);
CREATE TABLE arrival (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    path         BLOB    NOT NULL,
    renamed_from BLOB,                      -- NULL: closed, not renamed
    size         INTEGER,                   -- NULL: not closed yet, but about to be written in place
    mtime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL
);
CREATE TABLE work (
    file_id   INTEGER PRIMARY KEY REFERENCES file (id) ON DELETE CASCADE,
    folder_id INTEGER NOT NULL,             -- the file's; a folder's row waits until it has no work
    state     INTEGER NOT NULL,             -- 0 queued, 1 claimed, 2 failed, 3 suspect
    large     INTEGER NOT NULL,             -- 1: a large file; these have a lane of their own
    priority  INTEGER NOT NULL,             -- 1: goes before the others
    due_at    INTEGER NOT NULL,             -- not before this time: settle time or retry
    queued_at INTEGER NOT NULL,             -- of the first change not yet delivered
    size      INTEGER NOT NULL,
    -- 1: waited when the machine went down, and is sent only if it is whole; 2: found while the
    -- journal was rebuilt, and replaces at the remote only what is older; 0: neither.
    doubt     INTEGER NOT NULL DEFAULT 0,
    attempts  INTEGER NOT NULL DEFAULT 0,
    error     TEXT,                         -- of the last attempt
    failed_at INTEGER
);
CREATE TABLE expansion (
    folder_id  INTEGER PRIMARY KEY REFERENCES folder (id) ON DELETE CASCADE,
    path       BLOB    NOT NULL,            -- where its files were before
    after_file INTEGER NOT NULL DEFAULT 0   -- files up to this id are done
);
CREATE TABLE stray (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    path        BLOB    NOT NULL UNIQUE,
    hash        BLOB,                       -- BLAKE3 of the original there; NULL: not known for sure
    thumbnail   INTEGER NOT NULL,           -- 1: there is a thumbnail too, or may be
    -- What it waits for, each NULL when that is done: the delivery of the file that it is now, the row
    -- of the folder that it was in, the removal of that row.
    file_id     INTEGER,
    folder_id   INTEGER,
    gone_row_id INTEGER,
    state       INTEGER NOT NULL DEFAULT 0, -- 0 queued, 1 claimed, 2 failed
    due_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    error       TEXT,
    failed_at   INTEGER
);
CREATE TABLE gone_row (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    path      BLOB    NOT NULL UNIQUE,      -- of the folder
    version   INTEGER NOT NULL,             -- newer than any that was written
    state     INTEGER NOT NULL DEFAULT 0,   -- 0 queued, 1 claimed, 2 failed
    due_at    INTEGER NOT NULL,
    attempts  INTEGER NOT NULL DEFAULT 0,
    error     TEXT,
    failed_at INTEGER
);
CREATE TABLE upload (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    path      BLOB    NOT NULL,             -- of the file, where it was when it was claimed
    version   INTEGER NOT NULL,             -- of it
    hash      BLOB    NOT NULL,             -- BLAKE3 of the content that is sent
    name      TEXT    NOT NULL,             -- what the remote calls the upload; holds the size of parts
    began_at  INTEGER NOT NULL,
    -- 1: the remote has made an object of it; there is nothing to give up.
    completed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE upload_part (
    upload_id INTEGER NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    etag      TEXT,                         -- the remote's
    checksum  TEXT    NOT NULL,             -- that went with it
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;
CREATE TABLE scan (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE batch (
    id         INTEGER PRIMARY KEY,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,                     -- NULL: going on; then the next three are not known yet
    folders    INTEGER NOT NULL DEFAULT 0,  -- with something to deliver
    succeeded  INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batch_folder (
    folder_id INTEGER PRIMARY KEY REFERENCES folder (id) ON DELETE CASCADE,
    state     INTEGER NOT NULL DEFAULT 0    -- 0 not looked at since its last change, 1 succeeded, 2 failed
);
CREATE TABLE total (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    queued_rows INTEGER NOT NULL DEFAULT 0,     -- of folders that are gone
    failed_rows INTEGER NOT NULL DEFAULT 0,
    -- Paths whose objects can be deleted now; those that wait for something else are not counted.
    queued_deletions INTEGER NOT NULL DEFAULT 0,
    failed_deletions INTEGER NOT NULL DEFAULT 0
);
INSERT INTO meta VALUES (1, X'2F7372762F726967', 1, 2, '47aafc4751021180', 1796045793460, 1, 'ef981732-11d0-49b8-93d5-fe9ba6578392', NULL, NULL, 0, 1, '', '', NULL, 0, 0);
INSERT INTO folder VALUES (1, NULL, X'', 1796045793454, NULL, 0, 0, 0, 0, 0, NULL, NULL, 5, 9, 1, 3, 1, 2, 1, 2, 0, 0);
INSERT INTO folder VALUES (2, 1, X'6F74686572', 1796045793462, X'39E10ACE5D301BDDE15D66AD6D4577943715394A5985820C61508836D96131DF', 0, 0, 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO folder VALUES (3, 1, X'726967', 1796045793467, X'AE4BBB9639F2E75CB329F5AFC6DA070E30740C2E82494B5B485377717B3A258B', 1796045793472, 1796045793472, 0, 1796045793472, 0, NULL, NULL, 4, 6, 0, 0, 1, 2, 1, 2, 0, 0);
INSERT INTO folder VALUES (4, 1, X'6E6577', 1796045793481, NULL, 0, 0, 0, 0, 0, NULL, NULL, 1, 3, 1, 3, 0, 0, 0, 0, 0, 0);
INSERT INTO file VALUES (2, 3, X'312E6A7067', 2, 1, 1, 2, 1000, 94, 0, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1796045793468, 0, NULL);
INSERT INTO file VALUES (3, 3, X'322E6A7067', 1, 1, 1, 1, 1000, 1, 0, 1, NULL, NULL, X'3FBA5250BE9AC259C56E7250C526BC83BACB4BE825F2799D3D59E5B4878DD74E', NULL, NULL, NULL, NULL, NULL, 1796045793470, 0, NULL);
INSERT INTO file VALUES (4, 3, X'73746174732E6A736F6E', 1, 1, 1, 1, 1000, 1, 0, 2, NULL, NULL, X'3FBA5250BE9AC259C56E7250C526BC83BACB4BE825F2799D3D59E5B4878DD74E', NULL, NULL, NULL, NULL, NULL, 1796045793472, 0, NULL);
INSERT INTO file VALUES (5, 3, X'62726F6B656E2E6A7067', 1, 0, 1, 2, 1000, 217, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO file VALUES (7, 4, X'7761697473', 1, 0, 0, 3, 1000, 53, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO work VALUES (2, 3, 3, 0, 0, 1796045793477, 1796045793477, 2, 0, 0, 'it was 1 byte and is 0 bytes', 1796045793478);
INSERT INTO work VALUES (5, 3, 2, 0, 0, 0, 1796045793475, 2, 0, 1, 'it was refused', 1796045793477);
INSERT INTO work VALUES (7, 4, 0, 0, 0, 1796045793481, 1796045793481, 3, 0, 0, NULL, NULL);
INSERT INTO stray VALUES (1, X'6F746865722F6E6F746573', X'3FBA5250BE9AC259C56E7250C526BC83BACB4BE825F2799D3D59E5B4878DD74E', 0, NULL, NULL, NULL, 0, 1796045793480, 0, NULL, NULL);
INSERT INTO batch VALUES (1, 1796045793462, 1796045793467, 1, 1, 0);
INSERT INTO batch VALUES (2, 1796045793467, 1796045793475, 1, 1, 0);
INSERT INTO batch VALUES (3, 1796045793476, 1796045793477, 1, 0, 1);
INSERT INTO batch VALUES (4, 1796045793478, 1796045793479, 1, 0, 1);
INSERT INTO batch VALUES (5, 1796045793481, NULL, 0, 0, 0);
INSERT INTO batch_folder VALUES (4, 0);
INSERT INTO total VALUES (1, 0, 0, 1, 0);
CREATE INDEX folder_row_due ON folder (row_due) WHERE row_state = 1;
CREATE INDEX folder_row_troubled ON folder (row_failed_at) WHERE row_error IS NOT NULL;
CREATE INDEX file_inode ON file (inode);
CREATE INDEX file_content ON file (substr(hash, 1, 8)) WHERE hash IS NOT NULL;
CREATE INDEX file_without_thumbnail ON file (delivered_at) WHERE thumbnail = 2;
CREATE VIEW arrived AS
    WITH there AS (
             SELECT path, size, max(id) AS id FROM arrival WHERE size IS NOT NULL GROUP BY path),
         gone AS (
             SELECT renamed_from AS path, max(id) AS id FROM arrival
             WHERE renamed_from IS NOT NULL GROUP BY renamed_from)
    SELECT there.path, there.size FROM there LEFT JOIN gone ON gone.path = there.path
    WHERE gone.id IS NULL OR gone.id < there.id;
CREATE INDEX work_due ON work (large, priority, due_at) WHERE state = 0;
CREATE INDEX work_folder ON work (folder_id);
CREATE INDEX work_retried ON work (queued_at) WHERE attempts > 0;
CREATE INDEX work_troubled ON work (failed_at) WHERE error IS NOT NULL;
CREATE INDEX stray_due ON stray (due_at)
    WHERE state = 0 AND file_id IS NULL AND folder_id IS NULL AND gone_row_id IS NULL;
CREATE INDEX stray_file ON stray (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX stray_folder ON stray (folder_id) WHERE folder_id IS NOT NULL;
CREATE INDEX stray_gone_row ON stray (gone_row_id) WHERE gone_row_id IS NOT NULL;
CREATE INDEX stray_troubled ON stray (failed_at) WHERE error IS NOT NULL;
CREATE INDEX gone_row_due ON gone_row (due_at) WHERE state = 0;
CREATE INDEX gone_row_troubled ON gone_row (failed_at) WHERE error IS NOT NULL;
CREATE INDEX upload_path ON upload (path);
CREATE INDEX batch_folder_open ON batch_folder (folder_id) WHERE state = 0;
CREATE VIEW folder_status AS
WITH RECURSIVE tree (id, path, name) AS (
    SELECT id, '.', '.' FROM folder WHERE parent_id IS NULL
    UNION ALL
    SELECT folder.id,
        CASE tree.path WHEN '.' THEN '' ELSE tree.path || '/' END || CAST(folder.name AS TEXT),
        CAST(folder.name AS TEXT)
    FROM folder JOIN tree ON folder.parent_id = tree.id
), files AS (
    SELECT folder_id, count(*) AS files, max(mtime_ns) / 1000000 AS modified, max(delivered_at) AS delivered
    FROM file GROUP BY folder_id
), waiting AS (
    SELECT folder_id, max(state) AS state, max(attempts) AS attempts, max(queued_at) AS queued,
        max(failed_at) AS failed, max(error) AS error
    FROM work GROUP BY folder_id
)
SELECT
    tree.path AS folder_path,
    tree.name AS folder_name,
    strftime('%Y-%m-%dT%H:%M:%fZ', files.modified / 1000.0, 'unixepoch') AS last_modified,
    files.files AS file_count,
    lower(hex(folder.content_hash)) AS file_hash,
    CASE
        WHEN waiting.state > 1 OR folder.row_state = 2 THEN 'failed'
        WHEN waiting.folder_id IS NOT NULL OR folder.row_state * meta.has_rows > 0 THEN 'pending'
        ELSE 'success'
    END AS upload_status,
    strftime('%Y-%m-%dT%H:%M:%fZ', files.delivered / 1000.0, 'unixepoch') AS upload_timestamp,
    coalesce(waiting.error, folder.row_error) AS error_message,
    max(coalesce(waiting.attempts, 0), folder.row_attempts) AS retry_count,
    strftime('%Y-%m-%dT%H:%M:%fZ', folder.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', max(folder.created_at, coalesce(files.delivered, 0),
        coalesce(waiting.queued, 0), coalesce(waiting.failed, 0), coalesce(folder.row_failed_at, 0)) / 1000.0,
        'unixepoch') AS updated_at
FROM files
    JOIN folder ON folder.id = files.folder_id
    JOIN tree ON tree.id = folder.id
    JOIN meta
    LEFT JOIN waiting ON waiting.folder_id = folder.id;
CREATE VIEW upload_batches AS
WITH now (folders, succeeded, failed) AS (
    SELECT count(*), count(*) - count(work.folder_id), count(iif(work.state > 1, 1, NULL))
    FROM batch_folder
        LEFT JOIN (SELECT folder_id, max(state) AS state FROM work GROUP BY folder_id) AS work
        ON work.folder_id = batch_folder.folder_id
)
SELECT
    id AS batch_id,
    'batch_' || strftime('%Y%m%d_%H%M%S', started_at / 1000, 'unixepoch') AS batch_name,
    iif(ended_at IS NULL, now.folders, batch.folders) AS total_folders,
    iif(ended_at IS NULL, now.succeeded, batch.succeeded) AS successful_uploads,
    iif(ended_at IS NULL, now.failed, batch.failed) AS failed_uploads,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS start_time,
    strftime('%Y-%m-%dT%H:%M:%fZ', ended_at / 1000.0, 'unixepoch') AS end_time,
    CASE WHEN ended_at IS NULL THEN 'running' WHEN batch.failed > 0 THEN 'failed' ELSE 'success' END AS status,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS created_at
FROM batch, now;
CREATE TRIGGER file_added AFTER INSERT ON file BEGIN
    SELECT note_file(new.folder_id, 1, new.size);
END;
CREATE TRIGGER file_removed AFTER DELETE ON file BEGIN
    SELECT note_file(old.folder_id, -1, old.size);
END;
CREATE TRIGGER file_changed AFTER UPDATE OF size, folder_id ON file
WHEN new.size <> old.size OR new.folder_id <> old.folder_id BEGIN
    SELECT note_file(old.folder_id, -1, old.size), note_file(new.folder_id, 1, new.size);
END;
CREATE TRIGGER work_added AFTER INSERT ON work BEGIN
    SELECT note_work(new.folder_id, 1, new.state, new.size);
END;
CREATE TRIGGER work_removed AFTER DELETE ON work BEGIN
    SELECT note_work(old.folder_id, -1, old.state, old.size);
END;
CREATE TRIGGER work_moved AFTER UPDATE OF state, size, folder_id ON work
WHEN new.size <> old.size OR new.folder_id <> old.folder_id
    OR (new.state <> old.state AND max(new.state, old.state) > 1) BEGIN
    SELECT note_work(old.folder_id, -1, old.state, old.size), note_work(new.folder_id, 1, new.state, new.size);
END;
CREATE TRIGGER folder_row_moved AFTER UPDATE OF row_state ON folder
WHEN new.row_state <> old.row_state BEGIN
    SELECT note_row(new.id, -1, old.row_state), note_row(new.id, 1, new.row_state);
END;
CREATE TRIGGER gone_row_added AFTER INSERT ON gone_row BEGIN
    UPDATE total SET
        queued_rows = queued_rows + (new.state < 2),
        failed_rows = failed_rows + (new.state = 2);
END;
CREATE TRIGGER gone_row_moved AFTER UPDATE OF state ON gone_row WHEN new.state <> old.state BEGIN
    UPDATE total SET
        queued_rows = queued_rows + (new.state < 2) - (old.state < 2),
        failed_rows = failed_rows + (new.state = 2) - (old.state = 2);
END;
CREATE TRIGGER gone_row_removed AFTER DELETE ON gone_row BEGIN
    UPDATE total SET
        queued_rows = queued_rows - (old.state < 2),
        failed_rows = failed_rows - (old.state = 2);
END;
CREATE TRIGGER stray_added AFTER INSERT ON stray
WHEN new.file_id IS NULL AND new.folder_id IS NULL AND new.gone_row_id IS NULL BEGIN
    UPDATE total SET
        queued_deletions = queued_deletions + (new.state < 2),
        failed_deletions = failed_deletions + (new.state = 2);
END;
CREATE TRIGGER stray_moved AFTER UPDATE OF state, file_id, folder_id, gone_row_id ON stray BEGIN
    UPDATE total SET
        queued_deletions = queued_deletions
            + (new.state < 2 AND coalesce(new.file_id, new.folder_id, new.gone_row_id) IS NULL)
            - (old.state < 2 AND coalesce(old.file_id, old.folder_id, old.gone_row_id) IS NULL),
        failed_deletions = failed_deletions
            + (new.state = 2 AND coalesce(new.file_id, new.folder_id, new.gone_row_id) IS NULL)
            - (old.state = 2 AND coalesce(old.file_id, old.folder_id, old.gone_row_id) IS NULL);
END;
CREATE TRIGGER stray_removed AFTER DELETE ON stray
WHEN old.file_id IS NULL AND old.folder_id IS NULL AND old.gone_row_id IS NULL BEGIN
    UPDATE total SET
        queued_deletions = queued_deletions - (old.state < 2),
        failed_deletions = failed_deletions - (old.state = 2);
END;
