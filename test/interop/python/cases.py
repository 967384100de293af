"""Calls an image pipeline with grpcio. Writes one JSON line for each case to stdout: name, passed, detail.

Usage: cases.py <host:port>. The generated code of the contract has to be on the module path. A prompt that begins with "hold" is not
answered until its call ends.
"""

import asyncio
import json
import os
import sys
import threading

import grpc
from buf.validate import validate_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from throughline.v1 import pipeline_pb2 as contract
from throughline.v1 import pipeline_pb2_grpc

SERVICE = "throughline.v1.ImagePipelineService"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TARGET = sys.argv[1]
OPTIONS = [("grpc.enable_http_proxy", 0)]
PATIENCE = 20

channel = grpc.insecure_channel(TARGET, OPTIONS)
pipeline = pipeline_pb2_grpc.ImagePipelineServiceStub(channel)


def request(prompt="a red heart", **options):
    return contract.GenerateRequest(prompt=prompt, options=options)


def stream_request(prompt="a red heart", **options):
    return contract.GenerateStreamRequest(request=request(prompt, **options))


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{expected!r} was expected, not {actual!r}")


def error_of(call):
    """The error that a call ends with, as it is raised."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def fails_with(code, call):
    error = error_of(call)
    equal(error.code(), code)
    return error


def violations(error):
    """Paths of the fields that buf.validate.Violations in the error's details name."""
    status = rpc_status.from_call(error)
    if status is None:
        raise AssertionError("the error has no details")
    paths = []
    for detail in status.details:
        found = validate_pb2.Violations()
        if detail.Unpack(found):
            for violation in found.violations:
                paths.append(".".join(element.field_name for element in violation.field.elements))
    return paths


def unary():
    response = pipeline.Generate(request(seed=7), timeout=PATIENCE)
    equal(response.seed, 7)
    equal(response.image.content_type, "image/png")


def unary_future():
    equal(pipeline.Generate.future(request(seed=8), timeout=PATIENCE).result().seed, 8)


def unary_concurrent():
    calls = [pipeline.Generate.future(request(seed=seed), timeout=PATIENCE) for seed in range(8)]
    equal([call.result().seed for call in calls], list(range(8)))


def server_stream():
    events = [message.WhichOneof("event") for message in pipeline.GenerateStream(stream_request(), timeout=PATIENCE)]
    equal(events[-1], "result")
    equal("progress" in events, True)
    equal(events.count("result"), 1)


def bidi_stream():
    names = ProtoReflectionDescriptorDatabase(channel).get_services()
    equal(SERVICE in names, True)


def deadline_unary():
    fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: pipeline.Generate(request("hold unary"), timeout=0.5))


def deadline_stream():
    fails_with(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        lambda: list(pipeline.GenerateStream(stream_request("hold stream"), timeout=0.5)),
    )


def cancel_unary():
    call = pipeline.Generate.future(request("hold cancelled unary"), timeout=PATIENCE)
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    # A request that has to wait shows that the one before it has reached the engine.
    for attempt in iter(lambda: pipeline.GenerateStream(stream_request("behind"), timeout=PATIENCE), None):
        event = next(attempt).WhichOneof("event")
        attempt.cancel()
        if event == "queued":
            break
    call.cancel()
    equal(done.wait(PATIENCE), True)
    equal(call.code(), grpc.StatusCode.CANCELLED)


def cancel_stream():
    call = pipeline.GenerateStream(stream_request("hold cancelled stream"), timeout=PATIENCE)
    next(call)
    call.cancel()
    fails_with(grpc.StatusCode.CANCELLED, lambda: list(call))


def request_metadata():
    response = pipeline.Generate(request(), timeout=PATIENCE, metadata=[("traceparent", TRACEPARENT)])
    equal(response.trace_id, TRACEPARENT.split("-")[1])


def initial_metadata():
    response, call = pipeline.Generate.with_call(request(), timeout=PATIENCE)
    equal(dict(call.initial_metadata())["traceresponse"].split("-")[1], response.trace_id)


def metadata_of_errors():
    error = error_of(lambda: pipeline.Generate(request(""), timeout=PATIENCE))
    found = dict(error.trailing_metadata()) | dict(error.initial_metadata())
    equal("traceresponse" in found, True)


def binary_metadata():
    response = pipeline.Generate(request(), timeout=PATIENCE, metadata=[("x-test-bin", bytes(range(256)))])
    equal(response.image.content_type, "image/png")


def error_details_unary():
    error = fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: pipeline.Generate(request(""), timeout=PATIENCE))
    equal(violations(error), ["prompt"])


def error_details_stream():
    error = fails_with(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: list(pipeline.GenerateStream(stream_request(width=65), timeout=PATIENCE)),
    )
    equal(violations(error), ["request.options.width"])


def unimplemented_method():
    call = channel.unary_unary(f"/{SERVICE}/Missing", lambda message: b"", lambda answer: answer)
    fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: call(None, timeout=PATIENCE))


def unimplemented_service():
    call = channel.unary_unary("/example.Missing/Missing", lambda message: b"", lambda answer: answer)
    fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: call(None, timeout=PATIENCE))


def unimplemented_stream():
    call = channel.stream_stream("/example.Missing/Missing", lambda message: message, lambda answer: answer)
    for _ in range(20):
        # More messages than the server takes before it answers.
        fails_with(
            grpc.StatusCode.UNIMPLEMENTED,
            lambda: list(call(iter([bytes(1000)] * 50), timeout=PATIENCE)),
        )


def large_request():
    fails_with(
        grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: pipeline.Generate(request("a" * 13_000_000), timeout=PATIENCE)
    )


def gzip_request():
    response = pipeline.Generate(request(seed=9), timeout=PATIENCE, compression=grpc.Compression.Gzip)
    equal(response.seed, 9)


def health_check():
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=PATIENCE)
    equal(answer.status, health_pb2.HealthCheckResponse.SERVING)


def health_watch():
    health = health_pb2_grpc.HealthStub(channel)
    call = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=PATIENCE)
    equal(next(call).status, health_pb2.HealthCheckResponse.SERVING)
    call.cancel()


def asyncio_calls():
    async def calls():
        async with grpc.aio.insecure_channel(TARGET, OPTIONS) as own:
            stub = pipeline_pb2_grpc.ImagePipelineServiceStub(own)
            equal((await stub.Generate(request(seed=10), timeout=PATIENCE)).seed, 10)
            events = [
                message.WhichOneof("event")
                async for message in stub.GenerateStream(stream_request(), timeout=PATIENCE)
            ]
            equal(events[-1], "result")

    asyncio.run(calls())


CASES = [
    unary,
    unary_future,
    unary_concurrent,
    server_stream,
    bidi_stream,
    deadline_unary,
    deadline_stream,
    cancel_unary,
    cancel_stream,
    request_metadata,
    initial_metadata,
    metadata_of_errors,
    binary_metadata,
    error_details_unary,
    error_details_stream,
    unimplemented_method,
    unimplemented_service,
    unimplemented_stream,
    large_request,
    gzip_request,
    health_check,
    health_watch,
    asyncio_calls,
]

for case in CASES:
    try:
        case()
        outcome = {"name": case.__name__, "passed": True, "detail": ""}
    except BaseException as error:  # A failed case is a result, whatever it failed with.
        outcome = {"name": case.__name__, "passed": False, "detail": f"{type(error).__name__}: {error}"}
    print(json.dumps(outcome), flush=True)
channel.close()
sys.stdout.flush()
# Threads of calls that a failed case has left behind would keep the process.
os._exit(0)
