import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { createConnect } from "../../../src/trace/telemetry/otlp-connection.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../../support/certificates.js";
import { startOtlpReceiver } from "../../support/otlp-receiver.js";
import { readableSpans } from "../../support/readable-spans.js";
import { steadyPort } from "../../support/steady-port.js";

suite("export over mutual TLS", async () => {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const untrusted = await createAuthority();
  const server = await authority.issue();
  const client = await writeCertificate(folder, "client", await authority.issue({ name: "worker" }));
  const wrong = await writeCertificate(folder, "wrong", await untrusted.issue({ name: "worker" }));
  const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
  const untrustedCa = await replaceFile(join(folder, "untrusted-ca.crt"), untrusted.cert);

  for (const protocol of ["grpc", "http/protobuf"] as const) {
    /** Exports one span with these files. Resolves with what the log said. */
    const exportSpan = async (endpoint: string, files: { ca: string; cert: string; key: string }) => {
      const warnings: string[] = [];
      const telemetry = createTelemetry({
        serviceName: "worker",
        environment: {
          OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
          OTEL_EXPORTER_OTLP_CERTIFICATE: files.ca,
          OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: files.cert,
          OTEL_EXPORTER_OTLP_CLIENT_KEY: files.key,
          OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20CANARY",
        },
        log: { warn: (fields, message) => void warnings.push(`${JSON.stringify(fields)} ${message}`) },
      });
      telemetry.tracer.startSpan("a span").end();
      await telemetry.shutdown();
      return warnings.join("\n");
    };

    test(`${protocol}: presents its certificate and reaches the collector of its authority`, async (t) => {
      const receiver = await startOtlpReceiver({ protocol, tls: { ...server, ca: authority.cert } });
      t.after(receiver.stop);
      assert.equal(await exportSpan(receiver.endpoint, { ca, ...client }), "");
      assert.equal(receiver.spans()[0]?.name, "a span");
      assert.equal(receiver.exports[0]?.headers["authorization"], "Bearer CANARY");
    });

    test(`${protocol}: next attempt presents a renewed certificate, and a broken file is skipped`, async (t) => {
      const port = await steadyPort();
      const start = () => startOtlpReceiver({ protocol, port, tls: { ...server, ca: authority.cert } });
      let receiver = await start();
      t.after(() => receiver.stop());
      const files = await writeCertificate(folder, "renewed", await untrusted.issue({ name: "worker" }));
      const connect = createConnect("traces", {
        signal: "traces",
        protocol,
        url: protocol === "grpc" ? receiver.endpoint : `${receiver.endpoint}/v1/traces`,
        secure: true,
        headers: {},
        timeoutMs: 3000,
        compression: "none",
        tls: { ca, ...files },
      });
      /** One try by an exporter that is made for it, as the retry queue does after a failure. */
      const send = async () => {
        const connection = connect(3000);
        const { kind } = await connection.export(readableSpans("a span"));
        connection.close();
        return kind;
      };
      assert.equal(await send(), "retry");
      await writeCertificate(folder, "renewed", await authority.issue({ name: "worker" }));
      assert.equal(await send(), "delivered");
      await replaceFile(files.key, "nonsense");
      await receiver.stop();
      assert.equal(await send(), "retry");
      receiver = await start();
      assert.equal(await send(), "delivered");
    });

    test(`${protocol}: sends nothing to a collector of another authority, and is rejected with a certificate of another authority`, async (t) => {
      const receiver = await startOtlpReceiver({ protocol, tls: { ...server, ca: authority.cert } });
      t.after(receiver.stop);
      for (const files of [
        { ca: untrustedCa, ...client },
        { ca, ...wrong },
      ]) {
        const result = await exportSpan(receiver.endpoint, files);
        assert.match(result, /spans could not be exported/);
        assert.doesNotMatch(result, /CANARY/);
      }
      assert.equal(receiver.exports.length, 0);
    });
  }
});
