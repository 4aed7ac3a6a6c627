"""A queue that `mongorestore` has restored. No Python package contains this tool, so the tests restore with the
driver."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from bson import decode_all, encode
from pymongo.database import Database

from contract.grounds import MongoGround
from factories import LEASE, in_state, new_job
from queuectl.domain.query import Filter
from queuectl.store.mongo import schema
from servers.mongo import GivenMongo, MongoServer

Base = Database[dict[str, Any]]


@pytest.fixture
def ground(mongo_server: MongoServer | GivenMongo) -> Iterator[MongoGround]:
    ground = MongoGround(mongo_server)
    yield ground
    ground.close()


def dump(base: Base) -> dict[str, tuple[dict[str, Any], bytes, list[dict[str, Any]]]]:
    """Options, documents as bytes, and indexes of each collection: what an archive of `mongodump` holds."""
    return {
        found["name"]: (
            found.get("options", {}),
            b"".join(encode(document) for document in base[found["name"]].find()),
            [index.to_dict() for index in base[found["name"]].list_indexes()],
        )
        for found in base.list_collections()
    }


def restore(base: Base, dumped: dict[str, Any], *, options: bool, indexes: bool) -> None:
    """With `--drop`; without options as with `--noOptionsRestore`, without indexes as with `--noIndexRestore`."""
    for name, (given, documents, indices) in dumped.items():
        base.drop_collection(name)
        base.create_collection(name, **(given if options else {}))
        if documents:
            base[name].insert_many(decode_all(documents))
        made = [{**dict(i), "key": i["key"]} for i in indices if i["name"] != "_id_"]
        if indexes and made:
            base.command("createIndexes", name, indexes=made)


@pytest.mark.parametrize("indexes", [True, False])
@pytest.mark.parametrize("options", [True, False])
def test_a_restored_queue_has_all_jobs_and_works(ground: MongoGround, options: bool, indexes: bool) -> None:
    store = ground.open()
    store.add([new_job("waits"), in_state("completed", "past"), in_state("held", "held")])
    dumped = dump(ground.base)
    store.add([new_job("later")])
    store.close()
    restore(ground.base, dumped, options=options, indexes=indexes)
    again = ground.open()
    assert again.counts(Filter()).states() == {"pending": 1, "completed": 1, "held": 1}
    assert [job.id for job in again.claim("w1", (), 5, LEASE)] == ["waits"]
    assert again.describe(thorough=True).faults == ()
    assert set(ground.base["jobs"].index_information()) == {"_id_", *(index.name for index in schema.JOBS)}
    assert again.add([new_job(secrets.token_hex(4))])[0].status == "added"
