/** Pattern of an app id, `owner/name`, as in the contract's rule for `worker_app`. */
export const appIdPattern = /^[A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9][A-Za-z0-9._-]*$/;
