"""The small disk of a torture: it can be full without harming anybody."""

import errno

import pytest

from recado.torture.disk import SIZE_BYTES, small_disk


def test_it_is_full_to_the_last_byte_and_has_room_again(tmp_path):
    with small_disk(tmp_path) as disk:
        if isinstance(disk, str):
            pytest.skip(disk)
        disk.fill()
        with pytest.raises(OSError, match="space") as full:
            (tmp_path / "one").write_bytes(b"x")
        assert full.value.errno == errno.ENOSPC
        disk.make_room()
        (tmp_path / "one").write_bytes(b"x" * (SIZE_BYTES // 2))
    assert list(tmp_path.iterdir()) == [], "unmounted, and nothing was written beneath"


def test_where_it_cannot_be_it_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with small_disk(tmp_path) as disk:
        assert isinstance(disk, str)
        assert "root" in disk or "Linux" in disk
