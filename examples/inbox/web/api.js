// The calls to this shop's own backend.

/** An answer other than 2xx; `body` is what the backend said, `status` 0 when nothing answered. */
export class CallError extends Error {
  constructor(status, body, message) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

async function call(path, body) {
  const request = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, { ...request, signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new CallError(0, {}, "The shop's backend did not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new CallError(response.status, answer, answer.message ?? `The shop's backend answered ${response.status}.`);
  return answer;
}

/** Who is this, who else is there, and a token for the gateway. */
export const session = (user) => call(`/api/session?user=${encodeURIComponent(user)}`);
export const orders = () => call("/api/orders");
export const createOrder = (by) => call("/api/orders", { by });
export const advanceOrder = (by, id, version) => call(`/api/orders/${id}/advance`, { by, version });
export const mention = (by, to, text, order) => call("/api/mention", { by, to, text, order });
