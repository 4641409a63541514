"""The files of a repository that are downloaded; tests/checkpoints/test_file_formats.py says which."""

from dgx_vllm.hub.listing import File, Listing


def test_a_content_counts_once_and_the_small_come_first() -> None:
    files = (File("a", 30, "0a"), File("b", 7, "0b"), File("c", 30, "0a"))
    listing = Listing("org/model", "0", files)
    assert [file.blob for file in listing.blobs] == ["0b", "0a"]
    assert listing.size == 37
