// What is asked of the server; an error carries the sentence that it answered with.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answered(response) {
  if (response.ok) return response;
  let words = `the server answered ${response.status}`;
  try { words = (await response.json()).error ?? words; } catch { /* it was no JSON */ }
  throw new Refused(words, response.status);
}

export async function get(path) {
  return (await answered(await fetch(path))).json();
}

export async function send(path, content) {
  return answered(await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  }));
}

export const post = async (path, content) => (await send(path, content)).json();
export const imageUrl = (images, number) => `/images/${images}/${number}`;
export const thumbnailUrl = (images, number) => `/thumbnails/${images}/${number}`;
export const drawingUrl = (exam, number) => `/drawings/${exam}/${number}`;
