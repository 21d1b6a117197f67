"""The harness's side of shim.c and clock.c: what is armed, what came of it, and the clock's offsets."""

import ctypes
import errno
import mmap

KINDS = READ, WRITE, SYNC, TRUNCATE, OPEN, CREATE, RENAME, UNLINK, MKDIR = range(9)
NAMES = ("read", "write", "sync", "truncate", "open", "create", "rename", "unlink", "mkdir")
CHANGES = (WRITE, SYNC, TRUNCATE, CREATE, RENAME, UNLINK, MKDIR)
NOTHING, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_HALF = range(6)
KILLS = (KILL_BEFORE, KILL_AFTER, KILL_HALF)
EIO, ENOSPC = errno.EIO, errno.ENOSPC
WRITER = "store-writer"


class Control(ctypes.Structure):
    """`struct control` of shim.c."""

    _fields_ = [
        ("armed", ctypes.c_uint32),
        ("kinds", ctypes.c_uint32),
        ("nth", ctypes.c_uint64),
        ("lasting", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("slow_ms", ctypes.c_uint32),
        ("thread", ctypes.c_char * 16),
        ("part", ctypes.c_char * 64),
        ("counted", ctypes.c_uint64),
        ("fired", ctypes.c_uint64),
        ("calls", ctypes.c_uint64 * len(KINDS)),
        ("where", ctypes.c_char * 128),
    ]


def mapped(path, structure):
    path.write_bytes(bytes(ctypes.sizeof(structure)))
    with open(path, "r+b") as file:
        return structure.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(structure)))


class Shim:
    """For one state directory. `log` is written when it is given."""

    def __init__(self, library, place, log=None):
        self.library, self.place, self.log = library, place, log
        self.control = mapped(place / "control", Control)

    def environment(self, state):
        environment = {"FAULTS_DIR": str(state), "FAULTS_CONTROL": str(self.place / "control")}
        return environment | ({"FAULTS_LOG": str(self.log)} if self.log else {})

    def arm(self, kinds, nth, action, error=EIO, thread="", part="", lasting=False):
        self.disarm()
        control = self.control
        control.kinds = sum(1 << kind for kind in kinds)
        control.nth, control.action, control.error, control.lasting = nth, action, error, lasting
        control.thread, control.part = thread.encode(), part.encode()
        control.counted = control.fired = 0
        control.armed = 1

    def count(self, kinds, thread="", part=""):
        """Counts such calls from now on; `counted` says how many."""
        self.arm(kinds, 2**63, NOTHING, thread=thread, part=part)

    def disarm(self):
        self.control.armed = 0

    @property
    def fired(self):
        return self.control.fired

    @property
    def counted(self):
        return self.control.counted

    @property
    def where(self):
        return self.control.where.decode(errors="replace")


class Offsets(ctypes.Structure):
    """`struct offsets` of clock.c: ms that are added to the wall clock and to the monotonic one."""

    _fields_ = [("wall_ms", ctypes.c_int64), ("monotonic_ms", ctypes.c_int64)]


class Clock:
    def __init__(self, library, place):
        self.library, self.place = library, place
        self.offsets = mapped(place / "clock", Offsets)

    def environment(self, _state):
        return {"FAULTS_CLOCK": str(self.place / "clock")}
