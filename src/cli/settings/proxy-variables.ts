/** Variables that name proxies, with one line of help each. */
export const proxyVariables = {
  HTTPS_PROXY: "URL of the proxy for downloads from the Hub; `https_proxy` wins over it; default none",
  HTTP_PROXY:
    "the same where `HF_ENDPOINT` is an `http://` URL, and where there is no other; `http_proxy` wins over it",
  NO_PROXY:
    "hosts that are reached directly, with commas between them; `no_proxy` wins over it, and loopback is always among them",
} as const;
