// What the shop's notifications are about: the names stand in `category`. Others may publish here too; theirs have no filter.

/** By category; one that is `always` told cannot be muted: the backend sends it as mandatory. */
export const categories = {
  order: { name: "Orders", icon: "box" },
  mention: { name: "Mentions", icon: "at" },
  news: { name: "News", icon: "horn" },
  question: { name: "Questions", icon: "phone", always: true },
};

/** The drawing for a category. */
export const drawing = (category) => categories[category]?.icon ?? "bell";
