"""A desktop's notification service: writes summary and body of each to the file that is named."""

import sys

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NAME = "org.freedesktop.Notifications"


class Desktop(dbus.service.Object):
    @dbus.service.method(NAME, in_signature="susssasa{sv}i", out_signature="u")
    def Notify(self, app, _replaces, _icon, summary, body, _actions, _hints, _timeout):
        with open(sys.argv[1], "a") as heard:
            heard.write(f"{app}\t{summary}\t{body}\n")
        return 1

    @dbus.service.method(NAME, out_signature="ssss")
    def GetServerInformation(self):
        return "test", "outboxfs", "1", "1.2"

    @dbus.service.method(NAME, out_signature="as")
    def GetCapabilities(self):
        return ["body"]


DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
name = dbus.service.BusName(NAME, bus)
desktop = Desktop(bus, "/org/freedesktop/Notifications")
print("ready", flush=True)
GLib.MainLoop().run()
