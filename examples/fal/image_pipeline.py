"""The two apps of the original, reduced to their call: a pipeline that calls an image worker through fal's client, in one trace.

Run `throughline dev --tls-self-signed`, take over the line that it prints for Python, and then:

    pip install fal-client opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 python image_pipeline.py "a red heart"
"""

import os
import sys

import fal_client
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

WORKER_APP = os.environ.get("WORKER_APP", "local/text-to-image-worker")

provider = TracerProvider(resource=Resource.create({"service.name": "image-pipeline"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("image-pipeline")


def generate(prompt: str, worker_app: str = WORKER_APP) -> dict:
    """Body of the original's `ImagePipeline.generate`."""
    with tracer.start_as_current_span("image-pipeline", kind=trace.SpanKind.SERVER) as span:
        with tracer.start_as_current_span("preprocess-prompt") as preprocess:
            cleaned = " ".join(prompt.split())
            preprocess.set_attribute("prompt.length", len(prompt))

        # Injected while image-pipeline is the current span, so the worker's spans are its children.
        carrier: dict[str, str] = {}
        inject(carrier)

        with tracer.start_as_current_span("call-inference-worker", kind=trace.SpanKind.CLIENT) as call:
            call.set_attribute("app.id", worker_app)
            result = fal_client.subscribe(worker_app, {"prompt": cleaned, "trace_context": carrier})

        return {"image": result["image"], "trace_id": format(span.get_span_context().trace_id, "032x")}


if __name__ == "__main__":
    output = generate(" ".join(sys.argv[1:]) or "a red heart")
    print(output["image"]["url"])
    print("trace", output["trace_id"])
    provider.shutdown()
