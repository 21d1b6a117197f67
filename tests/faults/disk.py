"""A disk rebuilt from the shim's log, as a power cut at some point of it may leave it.

Three models, from strict order to none:

- `A`: everything reaches the disk in order and at once; of the write at the cut a whole number of sectors of 512 bytes is there.
- `B`: a write or a truncation that no sync of its file covers is there or not, p = 0.5 each. A name is what it was until its directory is
  synced; each operation on names that no sync covers is there or not, likewise (a rename is one operation, durable with either directory).
- `C`: as B by pages of 4 KiB: of each page that no sync covers the disk has one of the states that it had since. Operations on names and
  truncations are journalled in order, as ext4 and XFS do: any sync commits those before it, and at the cut some more are there.

In C a sync that failed leaves its pages clean, as Linux does: they keep on the disk what they had, however often the file is synced later, until
something is written to them again. `sync_file_range` makes nothing durable; when it fails, it cleans its range just so.
"""

import shutil
import struct
from collections import namedtuple
from pathlib import Path

CREATE, TRUNCATE, WRITE, RENAME, UNLINK, MKDIR, SYNC, RANGE = range(8)
HEAD = struct.Struct("<IIiQQQQHHI")
SECTOR, PAGE = 512, 4096

Entry = namedtuple("Entry", "kind error began ended offset length path other data")


def read_log(path):
    entries, bytes_ = [], Path(path).read_bytes()
    at = 0
    while at < len(bytes_):
        size, kind, error, began, ended, offset, length, path_size, other_size, data_size = HEAD.unpack_from(bytes_, at)
        names, data = at + HEAD.size, at + HEAD.size + path_size + other_size
        path, other = bytes_[names : names + path_size].decode(), bytes_[names + path_size : data].decode()
        entries.append(Entry(kind, error, began, ended, offset, length, path, other, bytes_[data : data + data_size]))
        at += size
    return entries


# ---------------------------------------------------------------- what is in a file


def resize(content, size):
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def overwrite(content, offset, data):
    if len(content) < offset:
        resize(content, offset)
    content[offset : offset + len(data)] = data


class InOrder:
    """Model A."""

    def __init__(self, content=b""):
        self.content = bytearray(content)

    def write(self, _, offset, data):
        overwrite(self.content, offset, data)

    def truncate(self, _, size):
        resize(self.content, size)

    def sync(self, failed):
        pass

    def range_failed(self, offset, length):
        pass

    def at_cut(self, _random, _journal):
        return self.content


class ByWrite:
    """Model B."""

    def __init__(self, content=b""):
        self.durable, self.pending = bytearray(content), []

    def write(self, _, offset, data):
        self.pending.append((offset, data))

    def truncate(self, _, size):
        self.pending.append((size, None))

    def sync(self, failed):
        if not failed:
            self.durable, self.pending = self.with_pending(lambda: True), []

    def range_failed(self, offset, length):
        pass

    def with_pending(self, kept):
        content = bytearray(self.durable)
        for place, data in self.pending:
            if kept():
                resize(content, place) if data is None else overwrite(content, place, data)
        return content

    def at_cut(self, random, _journal):
        return self.with_pending(lambda: random.random() < 0.5)


class ByPage:
    """Model C. `dirty` has the states of each page that was written since it was last cleaned; `number` orders them among truncations."""

    def __init__(self, content=b""):
        self.durable, self.cache = bytearray(content), bytearray(content)
        self.dirty, self.truncations = {}, []

    def write(self, number, offset, data):
        overwrite(self.cache, offset, data)
        for page in range(offset // PAGE, (offset + max(len(data), 1) - 1) // PAGE + 1):
            state = bytes(self.cache[page * PAGE : (page + 1) * PAGE])
            self.dirty.setdefault(page, []).append((number, state))

    def truncate(self, number, size):
        resize(self.cache, size)
        self.truncations.append((number, size))

    def sync(self, failed):
        if failed:
            self.dirty = {}
            return
        for _, size in self.truncations:
            resize(self.durable, size)
        for page in self.dirty:
            overwrite(self.durable, page * PAGE, self.cache[page * PAGE : (page + 1) * PAGE])
        resize(self.durable, len(self.cache))
        self.dirty, self.truncations = {}, []

    def range_failed(self, offset, length):
        for page in range(offset // PAGE, (offset + length + PAGE - 1) // PAGE):
            self.dirty.pop(page, None)

    def at_cut(self, random, journal):
        content = bytearray(self.durable)
        events = [(number, None, size) for number, size in self.truncations if number <= journal]
        for page, states in self.dirty.items():
            state = random.randrange(len(states) + 1)
            if state:
                events.append((states[state - 1][0], states[state - 1][1], page * PAGE))
        for _, data, place in sorted(events, key=lambda event: event[0]):
            resize(content, place) if data is None else overwrite(content, place, data)
        return content


FILES = {"A": InOrder, "B": ByWrite, "C": ByPage}


# ---------------------------------------------------------------- names

# An operation on names: `to` takes `what`, `gone` loses it; both are (directory, name) or None.
Naming = namedtuple("Naming", "number what to gone")


class Folder:
    def __init__(self):
        self.now, self.durable = {}, {}


class Disk:
    """Applies entries of a log one after the other; `cut` writes down what a cut now may leave."""

    def __init__(self, model, base=None):
        self.model, self.root, self.number = model, Folder(), 0
        self.pending = []  # Operations on names that are not durable.
        if base:
            self.load(self.root, Path(base))

    def load(self, folder, directory):
        for path in sorted(directory.iterdir()):
            if path.is_dir():
                inode = Folder()
                self.load(inode, path)
            elif path.is_file():
                inode = FILES[self.model](path.read_bytes())
            else:
                continue
            folder.now[path.name] = folder.durable[path.name] = inode

    def place(self, path):
        """The folder and the name of a path."""
        *above, name = path.split("/")
        folder = self.root
        for part in above:
            folder = folder.now[part]
        return folder, name

    def find(self, path):
        if not path:
            return self.root
        folder, name = self.place(path)
        return folder.now[name]

    def apply(self, entry):
        self.number += 1
        kind = entry.kind
        if kind == MKDIR and not entry.path:
            return  # The state directory itself is there before it all begins.
        if kind == WRITE:
            self.find(entry.path).write(self.number, entry.offset, entry.data)
        elif kind == TRUNCATE:
            self.find(entry.path).truncate(self.number, entry.length)
        elif kind == RANGE:
            if entry.error:
                self.find(entry.path).range_failed(entry.offset, entry.length)
        elif kind == SYNC:
            self.sync(self.find(entry.path), entry.error)
        elif kind in (CREATE, MKDIR):
            self.name(Folder() if kind == MKDIR else FILES[self.model](), self.place(entry.path), None)
        elif kind == RENAME:
            self.name(self.find(entry.path), self.place(entry.other), self.place(entry.path))
        elif kind == UNLINK:
            self.name(self.find(entry.path), None, self.place(entry.path))

    def name(self, what, to, gone):
        if gone:
            del gone[0].now[gone[1]]
        if to:
            to[0].now[to[1]] = what
        self.pending.append(Naming(self.number, what, to, gone))
        if self.model == "A":
            self.commit(self.pending)

    def sync(self, what, failed):
        if isinstance(what, Folder):
            if not failed and self.model == "B":
                self.commit([naming for naming in self.pending if what in (naming.to and naming.to[0], naming.gone and naming.gone[0])])
        else:
            what.sync(failed)
        if not failed and self.model == "C":
            self.commit(self.pending)

    def commit(self, namings):
        for naming in list(namings):
            # A name that moved on does not come back under the one that it had.
            self.pending = [other for other in self.pending if not (other.number <= naming.number and other.what is naming.what)]
            make(naming, lambda folder: folder.durable)

    # ---------------------------------------------------------------- the cut

    def cut(self, target, random, torn=None):
        """Writes the directory `target`. `torn`: the write that was under way."""
        journal, names = self.number, {}
        if self.model == "C" and self.pending:
            journal = random.choice([self.pending[0].number - 1] + [naming.number for naming in self.pending])

        def entries(folder):
            return names.setdefault(folder, dict(folder.durable))

        for naming in self.pending:
            if naming.number <= journal if self.model == "C" else random.random() < 0.5:
                make(naming, entries)
        shutil.rmtree(target, ignore_errors=True)
        if self.model == "A" and torn and torn.kind == WRITE:
            kept = max(0, (torn.offset + random.randrange(len(torn.data) + 1)) // SECTOR * SECTOR - torn.offset)
            torn = torn._replace(data=torn.data[:kept])
        else:
            torn = None
        self.write(self.root, Path(target), entries, random, journal, torn, self.find(torn.path) if torn else None)

    def write(self, folder, target, entries, random, journal, torn, torn_file):
        target.mkdir(mode=0o700)
        for name, inode in sorted(entries(folder).items()):
            if isinstance(inode, Folder):
                self.write(inode, target / name, entries, random, journal, torn, torn_file)
                continue
            content = inode.at_cut(random, journal)
            if inode is torn_file:
                content = bytearray(content)
                overwrite(content, torn.offset, torn.data)
            (target / name).write_bytes(content)
            (target / name).chmod(0o600)


def make(naming, entries):
    """Does an operation on names in the entries of its folders; of what is gone only the same file goes."""
    if naming.gone and entries(naming.gone[0]).get(naming.gone[1]) is naming.what:
        del entries(naming.gone[0])[naming.gone[1]]
    if naming.to:
        entries(naming.to[0])[naming.to[1]] = naming.what


def differences(disk, directory):
    """Paths whose current content in a disk of model A is not what a directory has: a call that the shim did not see."""
    found = set()

    def compare(folder, path):
        there = {child.name: child for child in path.iterdir() if child.is_dir() or child.is_file()}
        if folder is disk.root:
            # It gets its length by a raw system call, and holds nothing.
            there.pop("ballast", None)
            folder.now.pop("ballast", None)
        for name in there.keys() | folder.now.keys():
            child, inode = there.get(name), folder.now.get(name)
            if child is None or inode is None:
                found.add(str(path / name))
            elif isinstance(inode, Folder):
                compare(inode, child)
            elif child.read_bytes() != inode.content:
                found.add(str(child))

    compare(disk.root, Path(directory))
    return sorted(found)
