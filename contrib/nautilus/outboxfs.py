"""Emblems for files in an outboxfs mount, for GNOME Files (Nautilus 43 or later).

Copy this file to ~/.local/share/nautilus-python/extensions/ (Debian: package python3-nautilus) and
restart Nautilus with `nautilus -q`. Every file shows how far it is, by its extended attribute
user.upload.state; its properties say more.
"""

import os
from urllib.parse import unquote, urlsplit

STATE = "user.upload.state"

# Icons of the Adwaita theme.
EMBLEMS = {
    "delivered": "emblem-default",
    "queued": "emblem-synchronizing",
    "uploading": "emblem-synchronizing",
    "failed": "emblem-important",
    "suspect": "emblem-important",
}

# What the properties and columns show, by attribute.
TITLES = {
    "state": "Upload",
    "error": "Upload error",
    "url": "Upload URL",
    "delivered_at": "Delivered at",
}


def path_of(uri):
    """The path of a local file's URI, or None."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else None


def attribute(path, name):
    """What a file says of itself, or an empty string."""
    try:
        return os.getxattr(path, f"user.upload.{name}").decode(errors="replace")
    except OSError:
        return ""


def emblem(path):
    """The icon that shows how far a file is, or None."""
    return EMBLEMS.get(attribute(path, "state"))


try:
    from gi.repository import GObject, Nautilus
except ImportError:  # The functions above are of use without Nautilus.
    pass
else:

    class Outboxfs(GObject.GObject, Nautilus.ColumnProvider, Nautilus.InfoProvider):
        def get_columns(self):
            return [
                Nautilus.Column(name=f"Outboxfs::{name}", attribute=f"outboxfs_{name}", label=title,
                                description=f"{title}, as outboxfs knows it")
                for name, title in TITLES.items()
            ]

        def update_file_info(self, file):
            path = path_of(file.get_uri())
            if not path or not attribute(path, "state"):
                return
            icon = emblem(path)
            if icon:
                file.add_emblem(icon)
            for name in TITLES:
                file.add_string_attribute(f"outboxfs_{name}", attribute(path, name))
