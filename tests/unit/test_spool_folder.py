"""The folder of spools: who owns what, what a dead process left, and files that are not what was written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

from recado.errors import SpoolFailed
from recado.gateway.spool import damage, folder, rescue
from recado.gateway.spool.folder import Folder
from recado.gateway.spool.rescue import saved_rows
from recado.gateway.spool.row import REFUSED, Row
from recado.gateway.spool.store import Store
from recado.gateway.spool.wal import flatten, is_cut
from tests.spools import disk_ids, filled, record

PAGE = 4096


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("spool-*.db"))


def taken(directory: Path) -> list[str]:
    """Ids of what a new owner of the folder finds."""
    owned = Folder(directory).take()
    try:
        return [row.record.id for row in owned.store.rows() if isinstance(row, Row)]
    finally:
        owned.store.close()
        owned.release()


def ids(first: int, last: int) -> list[str]:
    return [f"{n:05}" for n in range(first, last)]


# --- owning --------------------------------------------------------------------------------------------------------


def test_two_owners_have_two_files_and_a_free_one_is_taken_again(tmp_path):
    first, second = Folder(tmp_path).take(), Folder(tmp_path).take()
    assert [owned.store.path.name for owned in (first, second)] == ["spool-1.db", "spool-2.db"]
    first.store.close()
    first.release()
    third = Folder(tmp_path).take()
    assert third.store.path.name == "spool-1.db"
    assert names(tmp_path) == ["spool-1.db", "spool-2.db"]  # the second lives, so it is not touched
    for owned in (second, third):
        owned.store.close()
        owned.release()


def test_orphans_are_taken_over_whole_and_in_the_order_of_their_numbers(tmp_path):
    for number in (2, 3, 10):
        filled(tmp_path / f"spool-{number}.db", [f"{number}-{n}" for n in range(3)])
    refused = Store(tmp_path / "spool-3.db")
    refused.append([(record("bad"), 5, REFUSED, "why")])
    refused.close()
    assert taken(tmp_path) == ["2-0", "2-1", "2-2", "3-0", "3-1", "3-2", "bad", "10-0", "10-1", "10-2"]
    assert names(tmp_path) == ["spool-1.db"]
    store = Store(tmp_path / "spool-1.db")
    assert store.refused()[0] == 1
    assert [row.reason for row in store.rows() if row.state == REFUSED] == ["why"]
    store.close()


def test_an_orphan_that_cannot_be_taken_over_stays_and_hinders_nobody(tmp_path, monkeypatch):
    filled(tmp_path / "spool-1.db", ["own"])
    filled(tmp_path / "spool-2.db", ["orphan"])
    monkeypatch.setattr(folder, "_sound", lambda store, lost: (_ for _ in ()).throw(OSError("disk full")))
    assert taken(tmp_path) == ["own"]
    monkeypatch.undo()
    assert taken(tmp_path) == ["own", "orphan"]


def test_a_failed_take_leaves_the_number_free(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "finish_rescues", lambda path, store: (_ for _ in ()).throw(OSError("no")))
    for _ in range(3):
        with pytest.raises(SpoolFailed, match="cannot be used"):
            Folder(tmp_path).take()
    monkeypatch.undo()
    assert taken(tmp_path) == []
    assert names(tmp_path) == ["spool-1.db"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolFailed, match="cannot be used"):
        Folder(tmp_path / "file" / "spool").take()


def test_the_file_of_a_later_recado_is_not_touched(tmp_path):
    filled(tmp_path / "spool-1.db", ["a"])
    db = sqlite3.connect(tmp_path / "spool-1.db")
    db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(SpoolFailed, match="later version"):
        Folder(tmp_path).take()
    assert names(tmp_path) == ["spool-1.db"]


# --- damage --------------------------------------------------------------------------------------------------------


def damaged_file(tmp_path: Path, count: int = 500) -> Path:
    path = tmp_path / "spool-1.db"
    filled(path, ids(0, count))
    assert not Path(f"{path}-wal").exists()
    return path


def leaves(path: Path) -> list[int]:
    """Places of the file's pages that hold rows (table leaves), but the first."""
    content = path.read_bytes()
    return [place for place in range(PAGE, len(content), PAGE) if content[place] == 0x0D]


def test_one_bad_page_costs_the_rows_of_that_page_alone(tmp_path):
    path = damaged_file(tmp_path)
    content = bytearray(path.read_bytes())
    place = leaves(path)[5]
    (per_page,) = struct.unpack_from(">H", content, place + 3)
    content[place : place + 200] = b"\xff" * 200
    path.write_bytes(content)
    found = taken(tmp_path)
    assert found == sorted(found)
    assert len(found) == 500 - per_page
    lost = sorted(set(ids(0, 500)) - set(found))
    assert lost == ids(int(lost[0]), int(lost[-1]) + 1)  # neighbours
    aside = [name for name in names(tmp_path) if ".aside-" in name]
    assert len(aside) == 1
    assert (tmp_path / aside[0]).read_bytes() == bytes(content)  # a witness, as it was found
    assert taken(tmp_path) == found  # and never read again
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("step", [1, 3, 7])
def test_flipped_bytes_anywhere_never_hinder_a_start_and_never_bring_a_wrong_record(tmp_path, step):
    source = damaged_file(tmp_path, 200)
    whole = source.read_bytes()
    true = dict.fromkeys(ids(0, 200), b"x" * 300)
    for place in range(0, len(whole), PAGE // step + 97 * step):
        home = tmp_path / f"at-{place}"
        home.mkdir()
        content = bytearray(whole)
        content[place] ^= 0xFF
        (home / "spool-1.db").write_bytes(content)
        owned = Folder(home).take()
        rows = [row for row in owned.store.rows() if isinstance(row, Row)]
        owned.store.close()
        owned.release()
        assert all(row.record.value == true[row.record.id] for row in rows)
        assert len(rows) >= 200 - 30
        shutil.rmtree(home)


@pytest.mark.parametrize("size", [0, 1, 100, PAGE - 1, PAGE, PAGE * 3 + 5, PAGE * 20])
def test_a_truncated_file_gives_what_is_left_of_it(tmp_path, size):
    path = damaged_file(tmp_path)
    os.truncate(path, size)
    found = taken(tmp_path)
    assert found == sorted(found)
    if size == PAGE * 20:
        assert len(found) >= 12 * 10
    assert taken(tmp_path) == found


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * PAGE * 2])
def test_a_file_that_is_none_is_set_aside(tmp_path, content):
    (tmp_path / "spool-1.db").write_bytes(content)
    assert taken(tmp_path) == []
    assert len(names(tmp_path)) == 2
    assert taken(tmp_path) == []
    assert len(names(tmp_path)) == 2


def test_another_programs_database_is_set_aside(tmp_path):
    db = sqlite3.connect(tmp_path / "spool-1.db")
    db.execute("CREATE TABLE records(x)")
    db.execute("PRAGMA application_id=77")
    db.close()
    assert taken(tmp_path) == []
    assert len(names(tmp_path)) == 2


def test_rows_of_a_topic_that_the_file_does_not_name_are_saved(tmp_path):
    path = damaged_file(tmp_path, 5)
    db = sqlite3.connect(path)
    db.execute("DELETE FROM topics")
    db.commit()
    db.close()
    assert taken(tmp_path) == ids(0, 5)


def test_a_damaged_chain_of_a_large_record_is_found_at_the_start(tmp_path):
    path = tmp_path / "spool-1.db"
    filled(path, ["big"], value=b"y" * 50_000)
    filled(path, ["small"])
    content = bytearray(path.read_bytes())
    place = next(p for p in range(PAGE, len(content), PAGE) if content[p + 4 : p + 100] == b"y" * 96)
    content[place : place + 4] = struct.pack(">I", 1)
    path.write_bytes(content)
    assert taken(tmp_path) == ["small"]


def test_a_damaged_row_of_an_orphan_keeps_its_file(tmp_path):
    path = tmp_path / "spool-2.db"
    filled(path, ["a", "b", "c"])
    store = Store(path)
    store._db.execute("UPDATE records SET crc = crc + 1 WHERE seq = (SELECT min(seq) FROM records)")
    store.close()
    assert taken(tmp_path) == ["b", "c"]
    assert [".aside-" in name for name in names(tmp_path)] == [False, True]
    assert taken(tmp_path) == ["b", "c"]


def test_an_index_into_itself_ends(tmp_path, monkeypatch):
    """An inner page whose children are all the same page: rows that would come again and again."""
    path = damaged_file(tmp_path, 2_000)
    content = bytearray(path.read_bytes())
    inner = [place for place in range(PAGE, len(content), PAGE) if content[place] == 0x05]
    assert inner
    place = inner[0]
    cells = struct.unpack_from(">H", content, place + 3)[0]
    first = struct.unpack_from(">H", content, place + 12)[0]
    child = content[place + first : place + first + 4]
    for number in range(cells):
        cell = struct.unpack_from(">H", content, place + 12 + 2 * number)[0]
        content[place + cell : place + cell + 4] = child
    path.write_bytes(content)
    found = taken(tmp_path)
    assert found[:8] == ids(0, 8)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("place", ["before reading", "after reading", "in the middle"])
def test_a_kill_during_a_rescue_loses_nothing(tmp_path, monkeypatch, place):
    path = damaged_file(tmp_path, 300)
    content = bytearray(path.read_bytes())
    content[leaves(path)[3] : leaves(path)[3] + 100] = b"\xff" * 100
    path.write_bytes(content)
    shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-whole")
    expected = taken(tmp_path.parent / f"{tmp_path.name}-whole")

    class Killed(BaseException): ...

    def killed(*arguments):
        raise Killed

    if place == "before reading":
        monkeypatch.setattr(folder, "finish_rescues", killed)
    elif place == "after reading":
        monkeypatch.setattr(damage, "put_away", killed)
    else:

        def some(aside):
            for number, row in enumerate(saved_rows(aside)):
                if number == 100:
                    raise Killed
                yield row

        monkeypatch.setattr(damage, "saved_rows", some)
    with pytest.raises(Killed):
        Folder(tmp_path).take()
    monkeypatch.undo()
    found = taken(tmp_path)
    assert sorted(set(found)) == expected
    assert taken(tmp_path) == found


def test_a_kill_between_the_two_names_of_a_damaged_file_loses_nothing(tmp_path, monkeypatch):
    path = damaged_file(tmp_path, 300)
    content = bytearray(path.read_bytes())
    content[leaves(path)[3] : leaves(path)[3] + 100] = b"\xff" * 100
    path.write_bytes(content)

    class Killed(BaseException): ...

    def killed(*arguments, **more):
        raise Killed

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(Killed):
        Folder(tmp_path).take()
    monkeypatch.undo()
    found = taken(tmp_path)
    assert len(set(found)) > 280
    assert ids(0, 20) == sorted(set(found))[:20]


def test_a_rescue_that_finds_no_room_is_left_for_the_next_start(tmp_path, monkeypatch):
    path = damaged_file(tmp_path, 300)
    content = bytearray(path.read_bytes())
    content[leaves(path)[3]] = 0xFF
    path.write_bytes(content)
    monkeypatch.setattr(rescue, "flatten", lambda *paths: (_ for _ in ()).throw(OSError("no space left")))
    assert taken(tmp_path) == []
    monkeypatch.undo()
    assert len(taken(tmp_path)) > 280


# --- the log -------------------------------------------------------------------------------------------------------


def with_log(tmp_path: Path, commits: int = 12) -> Path:
    """A spool whose process was killed: its rows stand in the log alone."""
    live = tmp_path / "live"
    live.mkdir()
    store = Store(live / "spool-1.db")
    store._db.execute("PRAGMA wal_autocheckpoint=0")
    for number in range(commits):
        store.append([(record(f"{number:05}", value=b"x" * 3000), 1, 0, "")])
    home = tmp_path / "home"
    home.mkdir()
    for name in ("spool-1.db", "spool-1.db-wal"):
        shutil.copy(live / name, home / name)
    store.close()
    return home


def frames(home: Path) -> int:
    return (Path(home / "spool-1.db-wal").stat().st_size - 32) // (24 + PAGE)


def test_a_whole_log_is_no_damage(tmp_path):
    home = with_log(tmp_path)
    assert not is_cut(home / "spool-1.db-wal")
    assert taken(home) == ids(0, 12)
    assert names(home) == ["spool-1.db"]


def test_a_log_with_the_rest_of_an_older_generation_behind_it_is_no_damage(tmp_path):
    path = tmp_path / "spool-1.db"
    store = Store(path)
    for number in range(30):
        store.append([(record(f"{number:05}", value=b"x" * 3000), 1, 0, "")])
    store._db.execute("PRAGMA wal_checkpoint(RESTART)")
    store.append([(record("last"), 1, 0, "")])
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", copy / f"spool-1.db{suffix}")
    store.close()
    assert not is_cut(copy / "spool-1.db-wal")
    assert taken(copy) == [*ids(0, 30), "last"]


@pytest.mark.parametrize("cut", [1, 23, 24 + PAGE - 1, 24 + PAGE])
def test_a_torn_end_of_the_log_is_no_damage(tmp_path, cut):
    home = with_log(tmp_path)
    log = home / "spool-1.db-wal"
    os.truncate(log, log.stat().st_size - cut)
    assert not is_cut(log)
    assert taken(home) == ids(0, 11)
    assert names(home) == ["spool-1.db"]


@pytest.mark.parametrize("where", [0, 8, 30, 500, PAGE])
def test_a_flipped_byte_in_the_middle_of_the_log_costs_at_most_a_page(tmp_path, where):
    """SQLite alone would silently forget every commit behind it."""
    home = with_log(tmp_path)
    log = home / "spool-1.db-wal"
    content = bytearray(log.read_bytes())
    content[32 + (24 + PAGE) * (frames(home) // 2) + where] ^= 0xFF
    log.write_bytes(content)
    assert is_cut(log)
    found = taken(home)
    assert len(found) >= 11
    assert "00011" in found
    assert len([name for name in names(home) if ".aside-" in name]) == 1
    assert len(list(home.glob("*.aside-*.db-wal"))) == 1
    assert taken(home) == found


@pytest.mark.parametrize("header", [b"\0" * 32, b"\xff" * 32])
def test_a_log_without_a_header_is_read_all_the_same(tmp_path, header):
    home = with_log(tmp_path)
    log = home / "spool-1.db-wal"
    log.write_bytes(header + log.read_bytes()[32:])
    assert taken(home) == ids(0, 12)


def test_an_empty_or_missing_file_with_a_full_log_is_read_from_the_log(tmp_path):
    for number, harm in enumerate((lambda path: path.write_bytes(b""), Path.unlink)):
        home = with_log(tmp_path / f"{number}") if (tmp_path / f"{number}").mkdir() is None else tmp_path
        harm(home / "spool-1.db")
        assert taken(home) == ids(0, 12)
        assert list(home.glob("*.aside-*.db-wal"))  # a witness


def test_flattening_gives_the_database_with_its_log(tmp_path):
    home = with_log(tmp_path)
    flatten(home / "spool-1.db", home / "spool-1.db-wal", tmp_path / "flat.db")
    db = sqlite3.connect(f"{(tmp_path / 'flat.db').as_uri()}?immutable=1", uri=True)
    assert db.execute("SELECT count(*) FROM records").fetchone() == (12,)
    assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()


def test_disk_ids_sees_every_owned_file(tmp_path):
    filled(tmp_path / "spool-1.db", ["a"])
    filled(tmp_path / "spool-2.db", ["b"])
    assert disk_ids(tmp_path) == ["a", "b"]
