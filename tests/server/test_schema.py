"""The OpenAPI document holds: whatever is asked, the answer is documented, and is no fault of the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from clipsearch.server import (
    answers,
    forms,
    forms_embeddings,
    forms_jobs,
    forms_records,
    forms_searches,
    forms_selections,
    problems,
)
from clipsearch.server.app import create_app
from clipsearch.server.examples import ANSWERS
from clipsearch.server.routes import session
from clipsearch.server.settings import ServerSettings
from tests.support.api import writable
from tests.support.libraries import index, photos
from tests.support.serving import BEARER

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
HOST = {"Host": "127.0.0.1:8756"}
OPTIONS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def run(app, examples, headers=HOST):
    """Ask each operation for so many things, right and wrong; return how many that were."""
    document = schemathesis.openapi.from_asgi("/v1/openapi.json", app, headers=headers)
    asked = 0
    for found in document.get_all_operations():
        operation = found.ok()
        cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES))

        @settings(max_examples=examples, phases=[Phase.explicit, Phase.generate], **OPTIONS)
        @given(case=cases)
        def ask(case):
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=CHECKS, headers=headers)

        ask()
    return asked


@pytest.mark.slow
def test_no_answer_is_a_fault_or_undocumented(engine):
    assert run(create_app(engine, ServerSettings()), 8) >= 80


@pytest.mark.slow
def test_no_answer_of_a_thousand_is_a_fault_or_undocumented(engine):
    assert run(create_app(engine, ServerSettings()), 125) >= 1000


@pytest.mark.slow
def test_nor_of_a_server_that_writes(tmp_path, encoder):
    photos(tmp_path / "photos", 2)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with writable(tmp_path / "lib", encoder, index_folders=(str(tmp_path / "photos"),)) as app:
        app.state.service.engine.add([{"id": f"r{n}", "text": f"text {n}"} for n in range(20)])
        assert run(app, 8, HOST | BEARER) >= 130
        app.state.jobs.close()


def test_an_operation_says_what_it_may_answer_and_no_more(engine):
    paths = create_app(engine, ServerSettings()).openapi()["paths"]
    statuses = {
        (method, path): {status for status in operation["responses"] if status[0] in "45"}
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert statuses["get", "/v1/health"] == {"403", "500"}
    assert statuses["get", "/v1/stats"] == {"401", "403", "429", "500", "503"}
    assert statuses["get", "/v1/search"] == statuses["get", "/v1/stats"] | {"409", "422"}
    assert statuses["post", "/v1/find"] == statuses["get", "/v1/stats"] | {"400", "408", "413", "422"}
    assert not [where for where, found in statuses.items() if "405" in found]
    changing = {path for (_, path), found in statuses.items() if "423" in found}
    assert {path.split("/")[2] for path in changing} == {"records", "tags", "collections", "searches"}


def test_answers_and_parameters_have_examples_that_hold(engine):
    document = create_app(engine, ServerSettings()).openapi()
    returned = {
        response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        if "$ref" in response.get("content", {}).get("application/json", {}).get("schema", {})
    }
    assert returned <= set(ANSWERS) and len(returned) >= 10
    modules = (
        answers,
        forms,
        forms_embeddings,
        forms_jobs,
        forms_records,
        forms_searches,
        forms_selections,
        problems,
        session,
    )
    models = {name: value for module in modules for name, value in vars(module).items()}
    for name, example in ANSWERS.items():
        models[name].model_validate(example)
        assert document["components"]["schemas"][name]["examples"] == [example]
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] != "header":
                    schema = parameter["schema"]
                    assert "example" in parameter or "examples" in schema or "cursor" in parameter["name"], parameter
