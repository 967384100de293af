import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, createFileRegistry, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { createHealth, type Health, ServingStatus } from "../../src/connect-health/health.js";
import { reflectionRoutes } from "../../src/connect-health/reflection.js";
import { Health as HealthService } from "../../src/gen/grpc/health/v1/health_pb.js";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
} from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";

const { NOT_SERVING, SERVICE_UNKNOWN, SERVING } = ServingStatus;
const clientOf = (health: Health) => createClient(HealthService, createRouterTransport(health.routes));

test("health is NOT_SERVING until it is set", async () => {
  const health = createHealth({ services: ["a.B"] });
  const client = clientOf(health);
  assert.equal((await client.check({})).status, NOT_SERVING);
  health.setAll(SERVING);
  assert.equal((await client.check({ service: "a.B" })).status, SERVING);
  assert.equal((await client.check({})).status, SERVING);
});

test("Check of an unknown service is NOT_FOUND", async () => {
  const expected = { code: Code.NotFound };
  await assert.rejects(clientOf(createHealth()).check({ service: "x.Y" }), expected);
});

test("List returns every service", async () => {
  const health = createHealth({ services: ["a.B"] });
  health.setAll(SERVING);
  const { statuses } = await clientOf(health).list({});
  assert.deepEqual(
    Object.entries(statuses).map(([service, { status }]) => [service, status]),
    [
      ["", SERVING],
      ["a.B", SERVING],
    ],
  );
});

suite("Watch", () => {
  const watch = (health: Health, service: string, signal = new AbortController().signal) => {
    const iterator = clientOf(health).watch({ service }, { signal })[Symbol.asyncIterator]();
    return async () => (await iterator.next()).value?.status;
  };

  test("Watch sends the current status and each change once", async () => {
    const health = createHealth({ services: ["a.B"] });
    const next = watch(health, "a.B");
    assert.equal(await next(), NOT_SERVING);
    health.setAll(NOT_SERVING);
    health.setAll(SERVING);
    assert.equal(await next(), SERVING);
  });

  test("Watch sends SERVICE_UNKNOWN for an unknown service and continues", async () => {
    const health = createHealth();
    const next = watch(health, "x.Y");
    assert.equal(await next(), SERVICE_UNKNOWN);
    const end = next();
    health.setAll(SERVING);
    health.close();
    assert.equal(await end, undefined);
  });

  test("Watch sends NOT_SERVING and ends when the server drains, and later changes have no effect", async () => {
    const health = createHealth();
    health.setAll(SERVING);
    const next = watch(health, "");
    assert.equal(await next(), SERVING);
    health.close();
    health.setAll(SERVING);
    assert.equal(await next(), NOT_SERVING);
    assert.equal(await next(), undefined);
    assert.equal((await clientOf(health).check({})).status, NOT_SERVING);
  });

  test("Watch ends when its client disconnects", async () => {
    const health = createHealth();
    const client = new AbortController();
    const next = watch(health, "", client.signal);
    assert.equal(await next(), NOT_SERVING);
    const waiting = next();
    client.abort();
    await assert.rejects(waiting, (error) => ConnectError.from(error).code === Code.Canceled);
  });
});

test("status of one service changes alone, and setting an unknown service is an error", async () => {
  const health = createHealth({ services: ["a.B", "c.D"] });
  const client = clientOf(health);
  health.set("c.D", SERVING);
  assert.equal((await client.check({ service: "a.B" })).status, NOT_SERVING);
  assert.equal((await client.check({ service: "c.D" })).status, SERVING);
  assert.equal((await client.check({})).status, NOT_SERVING);
  assert.throws(() => health.set("x.Y", SERVING), /x\.Y/);
});

type Request = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

const transport = createRouterTransport(reflectionRoutes([ImagePipelineService]));

for (const service of [ServerReflection, ServerReflectionAlpha]) {
  suite(service.typeName, () => {
    async function ask(messageRequest: Request) {
      async function* requests() {
        yield { host: "h", messageRequest };
      }
      for await (const response of createClient(service, transport).serverReflectionInfo(requests())) {
        assert.equal(response.validHost, "h");
        assert.equal(response.originalRequest?.messageRequest.case, messageRequest.case);
        return response.messageResponse;
      }
      throw new Error("no response");
    }
    async function fileNames(messageRequest: Request): Promise<readonly string[]> {
      const answer = await ask(messageRequest);
      if (answer.case !== "fileDescriptorResponse") {
        return [`${answer.case}`];
      }
      const file = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
      // A client has to be able to link what it gets.
      createFileRegistry(create(FileDescriptorSetSchema, { file: file.reverse() }));
      return file.reverse().map(({ name }) => name);
    }

    test("reflection lists the services and itself", async () => {
      const answer = await ask({ case: "listServices", value: "" });
      assert.ok(answer.case === "listServicesResponse");
      assert.deepEqual(
        answer.value.service.map(({ name }) => name),
        [
          "throughline.v1.ImagePipelineService",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
        ],
      );
    });

    const symbols = [
      "throughline.v1.ImagePipelineService",
      ".throughline.v1.ImagePipelineService",
      "throughline.v1.ImagePipelineService.Generate",
      "throughline.v1.GenerateRequest",
      "throughline.v1.GenerateRequest.prompt",
    ];
    for (const value of symbols) {
      test(`reflection returns the file of ${value} first and then its dependencies`, async () => {
        const names = await fileNames({ case: "fileContainingSymbol", value });
        assert.equal(names[0], "throughline/v1/pipeline.proto");
        for (const needed of [
          "throughline/v1/image.proto",
          "buf/validate/validate.proto",
          "google/protobuf/descriptor.proto",
        ]) {
          assert.ok(names.includes(needed), needed);
        }
      });
    }

    test("reflection returns the file of an enum value", async () => {
      const names = await fileNames({ case: "fileContainingSymbol", value: "throughline.v1.Scheduler.SCHEDULER_DDIM" });
      assert.equal(names[0], "throughline/v1/image.proto");
    });

    test("reflection returns a file by name", async () => {
      const [name] = await fileNames({ case: "fileByFilename", value: "throughline/v1/image.proto" });
      assert.equal(name, "throughline/v1/image.proto");
    });

    test("reflection finds extensions", async () => {
      const containingType = "google.protobuf.FieldOptions";
      const numbers = await ask({ case: "allExtensionNumbersOfType", value: containingType });
      assert.ok(numbers.case === "allExtensionNumbersResponse");
      // (buf.validate.field) and (buf.validate.predefined)
      assert.deepEqual(numbers.value.extensionNumber, [1159, 1160]);
      const names = await fileNames({
        case: "fileContainingExtension",
        value: { containingType, extensionNumber: 1159 },
      });
      assert.equal(names[0], "buf/validate/validate.proto");
    });

    test("reflection returns NOT_FOUND and INVALID_ARGUMENT in its response", async () => {
      const unknown: Request[] = [
        { case: "fileByFilename", value: "x.proto" },
        { case: "fileContainingSymbol", value: "x.Y" },
        { case: "fileContainingSymbol", value: "" },
        { case: "fileContainingExtension", value: { containingType: "x.Y", extensionNumber: 1 } },
        { case: "allExtensionNumbersOfType", value: "x.Y" },
      ];
      for (const request of unknown) {
        const answer = await ask(request);
        assert.ok(answer.case === "errorResponse" && answer.value.errorCode === 5, request.case);
      }
      const answer = await ask({ case: undefined });
      assert.ok(answer.case === "errorResponse" && answer.value.errorCode === 3);
    });
  });
}
