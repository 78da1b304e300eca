-- For tables that are written through PostgREST, whose upsert replaces whatever is there: a row of
-- an older version changes nothing, also when two requests overtake each other.
CREATE FUNCTION device_test_keep_newest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version < OLD.version THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_newest BEFORE UPDATE ON "device_test"
    FOR EACH ROW EXECUTE FUNCTION device_test_keep_newest();
