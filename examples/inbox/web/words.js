// A publisher may send any JSON: title and body are the conventional names, not a promise.
export function words({ category, data }) {
  const text = (value) => (typeof value === "string" ? value : "");
  if (data === null || typeof data !== "object") return { title: data == null ? category || "Notification" : String(data), text: "" };
  return { title: text(data.title) || category || "Notification", text: text(data.body) };
}
