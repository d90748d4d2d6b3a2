// The calls to this shop's own backend, and the one to the gateway.

/** An answer other than 2xx; `body` is what the backend said, `status` 0 when nothing answered. */
export class CallError extends Error {
  constructor(status, body, message) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

function call(path, body) {
  const request = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  return answerOf(path, request, "The shop's backend");
}

async function answerOf(url, request, whose) {
  let response;
  try {
    response = await fetch(url, { ...request, signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new CallError(0, {}, `${whose} did not answer.`);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new CallError(response.status, answer, answer.message ?? `${whose} answered ${response.status}.`);
  return answer;
}

/** The newest that were archived: the one thing that the page asks the gateway over HTTP. */
export async function archived({ gateway, user }) {
  const { token } = await session(user.id);
  return answerOf(`${gateway}/v1/inbox?status=archived&limit=50`, { headers: { Authorization: `Bearer ${token}` } }, "The gateway");
}

/** Who is this, who else is there, and a token for the gateway. */
export const session = (user) => call(`/api/session?user=${encodeURIComponent(user)}`);
export const orders = () => call("/api/orders");
export const createOrder = (by) => call("/api/orders", { by });
export const advanceOrder = (by, id, version) => call(`/api/orders/${id}/advance`, { by, version });
export const everyone = (by, text) => call("/api/everyone", { by, text });
export const ask = (by, to) => call("/api/ask", { by, to });
export const mention = (by, to, text, order) => call("/api/mention", { by, to, text, order });
