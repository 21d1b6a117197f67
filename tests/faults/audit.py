"""A store as its export shows it: whether all of it belongs together. A half commit is seen here, whatever the receiver got."""

import json
from collections import Counter, defaultdict

from books import Fault


def audit(books, lines, names=None):
    """Faults of an export's lines (bytes). `names`: of bridges, where they are not those of the books."""
    rows = defaultdict(list)
    count = 0
    for line in lines:
        if line.strip():
            row = json.loads(line)
            kind = next(iter(row))
            rows[kind].append(row[kind] if kind != "bellpull" else row)
            count += 1
    if not rows["end"] or rows["end"][0]["lines"] != count - 1:
        return [Fault("wrong", f"the export is not whole: {rows['end']}, {count} lines")]
    faults = []
    for book in books.books.values():
        name = (names or {}).get(book.name, book.name)
        faults += bridge_of(book, name, rows)
    deliveries = Counter((row["endpoint"], tuple(row["position"])) for row in rows["delivery"])
    bare = [
        row["id"]
        for row in rows["event"]
        for endpoint, content in row["deliveries"]
        if not deliveries[endpoint, tuple(row["position"])]
    ]
    if bare:
        faults.append(Fault("lost", f"{len(bare)} of {len(rows['event'])} events lack a delivery, such as {bare[0]}"))
    positions = {tuple(row["position"]) for row in rows["event"]}
    stray = [place for place in deliveries if place[1] not in positions]
    if stray:
        faults.append(Fault("lost", f"{len(stray)} deliveries have no event, such as {stray[0]}"))
    return faults


def bridge_of(book, name, rows):
    faults = []
    states = [row["state"] for row in rows["state"] if row["bridge"] == name]
    if not states:
        return [Fault("lost", f"{name} has no state")]
    records = {row["hashes"][0]: row for row in rows["record"] if row["bridge"] == name}
    if states[0]["records"] != len(records):
        faults.append(Fault("lost", f"{name}: the state says {states[0]['records']} records, there are {len(records)}"))
    if not book.window:
        entries = [entry for row in rows["list"] if row["bridge"] == name for entry in row["entries"]]
        wrong = [entry for entry in entries if entry[0] not in records or records[entry[0]]["hashes"] != entry]
        if wrong or len(entries) != len(records):
            text = f"{name}: {len(wrong)} of {len(entries)} entries of the list do not fit the {len(records)} records"
            faults.append(Fault("lost", text))
    held = {int(row["key"]): row["body"]["json"]["rev"] for row in records.values()}
    wrong = [key for key in held.keys() | book.now.keys() if held.get(key) != book.now.get(key)]
    if wrong:
        faults.append(Fault("lost", f"{name}: {len(wrong)} records are not those of the API, such as {wrong[0]}"))
    # Events keep the name that they were committed under.
    numbers = sorted(row["sequence"] for row in rows["event"] if row["bridge"] in book.names)
    if any(after != before + 1 for before, after in zip(numbers, numbers[1:])):
        gaps = [before for before, after in zip(numbers, numbers[1:]) if after != before + 1]
        faults.append(Fault("lost", f"{name}: gaps in sequence after {gaps[:5]}"))
    if numbers and states[0]["sequence"] != numbers[-1]:
        faults.append(Fault("lost", f"{name}: the state says sequence {states[0]['sequence']}, the last event is {numbers[-1]}"))
    return faults
