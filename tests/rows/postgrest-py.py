"""Does with the official client what outboxfs does for an upsert and a removal:
    python3 postgrest-py.py URL < {"rows": [...], "version": 2}
"""
import json
import sys

from postgrest import SyncPostgrestClient
from postgrest.types import ReturnMethod

work = json.load(sys.stdin)
rows = work["rows"]
# The headers that supabase-py gives to every request.
headers = {"apikey": "service-key", "Authorization": "Bearer service-key"}
client = SyncPostgrestClient(sys.argv[1], headers=headers)
table = lambda: client.from_("device_test")
mount, minimal = rows[0]["mount_id"], ReturnMethod.minimal

folders = [row["folder"] for row in rows]
there = table().select("mount_id", "folder", "version").eq("mount_id", mount).in_("folder", folders)
there.order("version", desc=True).limit(len(folders)).execute()
table().upsert(rows, on_conflict="mount_id,folder", returning=minimal).execute()
gone = table().delete(returning=minimal).eq("mount_id", mount).eq("folder", folders[0])
gone.lte("version", work["version"]).execute()
