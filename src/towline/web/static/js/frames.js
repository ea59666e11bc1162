// Frames of log and exec streams: kind (1 byte), source (2), length (4), body; big-endian. See docs/wire-protocol.md.
export const STDIN = 0, STDOUT = 1, STDERR = 2, RESIZE = 3, EXIT = 4, SOURCE = 5, EVENT = 6, CLOSE_STDIN = 7;
const HEAD_BYTES = 7;

export function encodeFrame(kind, body, source = 0) {
  const frame = new Uint8Array(HEAD_BYTES + body.length);
  const view = new DataView(frame.buffer);
  view.setUint8(0, kind);
  view.setUint16(1, source);
  view.setUint32(3, body.length);
  frame.set(body, HEAD_BYTES);
  return frame;
}

export class FrameReader {
  #rest = new Uint8Array(0);

  *feed(chunk) {
    let data = chunk;
    if (this.#rest.length) {
      data = new Uint8Array(this.#rest.length + chunk.length);
      data.set(this.#rest);
      data.set(chunk, this.#rest.length);
    }
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    let at = 0;
    while (data.length - at >= HEAD_BYTES) {
      const end = at + HEAD_BYTES + view.getUint32(at + 3);
      if (end > data.length) break;
      yield { kind: view.getUint8(at), source: view.getUint16(at + 1), body: data.subarray(at + HEAD_BYTES, end) };
      at = end;
    }
    this.#rest = data.slice(at);
  }
}
