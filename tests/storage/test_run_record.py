from __future__ import annotations

from dsrl.storage.run_store import RunStore


def again(store: RunStore) -> RunStore:
    """Close a store and open its run again."""
    store.close()
    return RunStore(store.folder)


def test_events_and_seconds(store: RunStore) -> None:
    for text in ("first", "second", "first"):
        store.add_event("note", text)
    assert [(level, text) for _, level, text in store.events()] == [("note", "first"), ("note", "second")]
    store.set_seconds({"initial": 1.0})
    store.set_seconds({"initial": 2.0, "total": 3.0})
    store = again(store)
    store.set_seconds({"initial": 0.5})
    assert store.seconds() == {"initial": 2.5, "total": 3.0}, "a sitting is counted once"
    store.close()


def test_a_run_keeps_its_id_and_its_age(store: RunStore) -> None:
    run_id, created = store.id, store.created
    store = again(store)
    assert (store.id, store.created) == (run_id, created)
    other = RunStore(store.folder.with_name("other"))
    assert other.id != run_id
    other.close()
    store.close()
