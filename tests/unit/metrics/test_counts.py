"""Counts of hot paths: buckets of times, requests, and the lag of a watch."""

from macvlan_global.metrics.counts import BOUNDS, LAG_SECONDS, WATCHED_MOST, Metrics, TimeBuckets, WatchCounts


def test_a_duration_falls_into_the_bucket_of_its_upper_bound() -> None:
    """A bound is of its own bucket, as `le` says, and what is longer than all bounds has one too."""
    times = TimeBuckets()
    for each in (0.0, BOUNDS[0], BOUNDS[1], BOUNDS[-1], BOUNDS[-1] + 1):
        times.add(each)
    assert times.counts[:2] == [2, 1]
    assert times.counts[-2:] == [1, 1]
    assert (len(times), times.seconds) == (5, sum((BOUNDS[0], BOUNDS[1], 2 * BOUNDS[-1], 1)))


def test_requests_are_counted_by_method_and_outcome() -> None:
    """Each with its time, and a method that was not called is not there."""
    metrics = Metrics()
    metrics.observe("NetworkDriver.Join", 0.002, "answered")
    metrics.observe("NetworkDriver.Join", 0.5, "refused")
    (counts,) = metrics.requests.values()
    assert counts.outcomes == {"answered": 1, "refused": 1, "failed": 0}
    assert len(counts.times) == 2


def _open(now: float) -> WatchCounts:
    watch = WatchCounts(now)
    watch.begins("names/", now)
    watch.delivered("names/", [], now, whole=True, first=True)
    return watch


def test_a_watch_is_behind_by_the_oldest_write_that_it_has_not_delivered() -> None:
    """It grows until the key comes, and is then the lag that was measured, for a minute."""
    watch = _open(1.0)
    watch.sent("names/a", 10.0)
    watch.sent("names/b", 11.0)
    assert watch.behind(12.0) == 2.0
    watch.delivered("names/", ["names/a", "names/other"], 14.0, whole=False, first=False)
    assert watch.behind(14.0) == 4.0
    watch.delivered("names/", ["names/b"], 14.5, whole=False, first=False)
    assert watch.behind(15.0) == 3.5
    assert watch.behind(15.0 + LAG_SECONDS) == 0.0


def test_a_watch_that_is_not_open_is_behind_since_it_ended() -> None:
    """From its first request on too; one that is opened again delivers all that there is."""
    watch = WatchCounts(5.0)
    assert watch.behind(7.0) == 0.0, "there is none"
    watch.begins("names/", 5.0)
    assert watch.behind(7.0) == 2.0
    watch.delivered("names/", [], 8.0, whole=True, first=True)
    assert watch.behind(9.0) == 0.0
    watch.sent("names/a", 9.0)
    watch.ended("names/", 10.0, was_open=True, lost=True)
    watch.begins("names/", 11.0)
    watch.ended("names/", 11.0, was_open=False, lost=True)
    assert watch.behind(13.0) == 3.0
    watch.sent("names/b", 13.0)
    watch.delivered("names/", [], 14.0, whole=True, first=True)
    assert watch.behind(14.0) == 1.0


def test_no_more_writes_are_followed_than_there_is_room_for() -> None:
    """A watch that delivers nothing costs no memory without end."""
    watch = _open(0.0)
    for number in range(WATCHED_MOST + 10):
        watch.sent(f"names/{number}", float(number))
    assert len(watch.waiting) == WATCHED_MOST
