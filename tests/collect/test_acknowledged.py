"""Files of acknowledged batches: what can be read back of a long loss."""

from __future__ import annotations

from pixel_server.collect.acknowledged import AcknowledgedBatch, AcknowledgedFiles, MissingBatches

PRODUCER = "01a0c4506c0059ab351f1c6117b2"


def test_acknowledged_long_loss_counts_the_hits_in_the_ring(tmp_path):
    held = AcknowledgedFiles(tmp_path, 256)
    held.note([AcknowledgedBatch(PRODUCER, 7, n, 2) for n in range(1, 401)])
    held.close([])
    again = AcknowledgedFiles(tmp_path, 256)
    assert again.read_newest() == {(PRODUCER, 7): 400}
    assert again.find_missing(PRODUCER, 7, 390, 400) == MissingBatches(PRODUCER, 7, 391, 400, 20, True)
    assert again.find_missing(PRODUCER, 7, 0, 400) == MissingBatches(PRODUCER, 7, 1, 400, 512, False)
    assert AcknowledgedFiles(tmp_path, 4).read_newest() == {}, "a file for 256 shards is not read"


def test_acknowledged_owner_runs_until_it_closes_its_files(tmp_path):
    own, other = AcknowledgedFiles(tmp_path, 4), AcknowledgedFiles(tmp_path, 4)
    assert not other.has_running_owner(PRODUCER)
    own.note([AcknowledgedBatch(PRODUCER, 0, 1, 1)])
    other.find_missing(PRODUCER, 0, 0, 1)
    assert other.has_running_owner(PRODUCER)
    own.close([])
    assert not other.has_running_owner(PRODUCER)
    other.close([])
