"""Uses the durable jobs of an image pipeline with grpcio. Writes one JSON line for each case to stdout: name, passed, detail.

Usage: job_cases.py <host:port>. The generated code of the contract has to be on the module path. A job whose prompt begins with "hold" runs
until it is cancelled.
"""

import json
import sys
import urllib.request

import grpc
from throughline.v1 import job_pb2 as contract
from throughline.v1 import job_pb2_grpc
from throughline.v1 import pipeline_pb2

TARGET = sys.argv[1]
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
PATIENCE = 20


def connect():
    channel = grpc.insecure_channel(TARGET, OPTIONS)
    return channel, job_pb2_grpc.JobServiceStub(channel)


channel, jobs = connect()


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{expected!r} was expected, not {actual!r}")


def create(prompt, **fields):
    request = contract.CreateJobRequest(generate=pipeline_pb2.GenerateRequest(prompt=prompt), **fields)
    return jobs.CreateJob(request, timeout=PATIENCE).job


def watch(stub, job):
    return stub.WatchJob(contract.WatchJobRequest(id=job.id), timeout=PATIENCE)


def create_and_watch():
    job = create("a red heart", request_id="heart")
    equal(create("a red heart", request_id="heart").id, job.id)
    states = [update.job.state for update in watch(jobs, job)]
    equal(states[-1], contract.JOB_STATE_SUCCEEDED)
    last = jobs.GetJob(contract.GetJobRequest(id=job.id), timeout=PATIENCE).job
    image = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(last.result.image.url, timeout=PATIENCE).read()
    equal(image[:4], b"\x89PNG")


def watch_with_reconnect():
    job = create("hold reconnect")
    lost, stub = connect()
    updates = watch(stub, job)
    equal(next(updates).job.id, job.id)
    lost.close()
    try:
        next(updates)
        raise AssertionError("the stream outlived its connection")
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.CANCELLED)
    again = watch(jobs, job)
    first = next(again).job
    equal(first.generate.prompt, "hold reconnect")
    equal(first.state in (contract.JOB_STATE_QUEUED, contract.JOB_STATE_RUNNING), True)
    jobs.CancelJob(contract.CancelJobRequest(id=job.id), timeout=PATIENCE)
    equal([update.job.state for update in again][-1], contract.JOB_STATE_CANCELLED)


def cancel():
    job = create("hold cancel")
    for update in watch(jobs, job):
        if update.job.WhichOneof("detail") == "progress":
            jobs.CancelJob(contract.CancelJobRequest(id=job.id), timeout=PATIENCE)
    equal(update.job.state, contract.JOB_STATE_CANCELLED)
    again = jobs.CancelJob(contract.CancelJobRequest(id=job.id), timeout=PATIENCE).job
    equal(again.state, contract.JOB_STATE_CANCELLED)


def delete():
    job = create("hold delete")
    jobs.DeleteJob(contract.DeleteJobRequest(id=job.id), timeout=PATIENCE)
    try:
        jobs.GetJob(contract.GetJobRequest(id=job.id), timeout=PATIENCE)
        raise AssertionError("the job is still there")
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.NOT_FOUND)


for case in [create_and_watch, watch_with_reconnect, cancel, delete]:
    try:
        case()
        result = {"passed": True, "detail": ""}
    except Exception as error:  # noqa: BLE001
        result = {"passed": False, "detail": f"{type(error).__name__}: {error}"}
    print(json.dumps({"name": case.__name__, **result}), flush=True)
