// Relative times in an operator's words; exact ones are in the title.
export function ago(at, now = new Date()) {
  const seconds = Math.round((now - at) / 1000);
  if (seconds < 0) return inFuture(-seconds);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function inFuture(seconds) {
  if (seconds < 60) return "in a moment";
  if (seconds < 3600) return `in ${Math.ceil(seconds / 60)} min`;
  if (seconds < 86400) return `in ${Math.ceil(seconds / 3600)} h`;
  return `in ${Math.ceil(seconds / 86400)} d`;
}
