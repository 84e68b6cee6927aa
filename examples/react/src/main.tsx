// Shows a chat: the state of the connection, what is said in one topic, and a form to say something.
import { StrictMode, useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { broadcast, useConnection, useTopic } from "./broadcast";

const TOPIC = "example/react";

function Chat() {
  const state = useConnection();
  const items = useTopic(TOPIC);
  const [words, setWords] = useState("");
  const [problem, setProblem] = useState("");

  async function say(event: FormEvent) {
    event.preventDefault();
    setWords("");
    try {
      await broadcast().publish(TOPIC, words, { timeout: 10_000 }); // also if the connection is lost meanwhile
      setProblem("");
    } catch (error) {
      setProblem(String(error));
    }
  }

  return (
    <main>
      <p>The connection is <strong>{state}</strong>.</p>
      <form onSubmit={say}>
        <input aria-label="Words" value={words} onChange={(event) => setWords(event.target.value)} required />
        <button>Say</button>
      </form>
      <p role="status">{problem}</p>
      <ol>
        {items.map((item, number) => (
          <li key={number}>
            {item.kind === "event" && String(item.payload)}
            {item.kind === "lost" && `Something may be missing here: ${item.why}`}
            {item.kind === "deleted" && "The topic was deleted"}
          </li>
        ))}
      </ol>
    </main>
  );
}

createRoot(document.getElementById("root")!).render(<StrictMode><Chat /></StrictMode>);
