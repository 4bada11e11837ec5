//! A small web site to crawl: an index of chapters, chapters of sections, and a link that leads nowhere.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use url::Url;

const CHAPTERS: usize = 4;
const SECTIONS: usize = 5;

/// Serves the site on loopback for as long as the program runs.
pub(crate) fn serve() -> io::Result<Url> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no concern of the others.
            thread::spawn(|| answer(stream));
        }
    });
    Url::parse(&url).map_err(io::Error::other)
}

/// Answers one request, and closes the connection.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match page(path) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", "<h1>There is no such page</h1>".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn page(path: &str) -> Option<String> {
    let parts: Vec<_> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
    let number = |part: &str, most| part.parse::<usize>().ok().filter(|number| (1..=most).contains(number));
    let link = |target: String, text: String| format!("<li><a href=\"{target}\">{text}</a></li>");
    let (title, links) = match parts.as_slice() {
        [] => {
            let chapters = (1..=CHAPTERS).map(|n| link(format!("/chapter/{n}/"), format!("Chapter {n}")));
            let missing = link("/appendix/".into(), "The appendix, which is yet to be written".into());
            ("A small book".into(), chapters.chain([missing]).collect::<String>())
        }
        ["chapter", chapter] => {
            let chapter = number(chapter, CHAPTERS)?;
            let sections = (1..=SECTIONS).map(|n| link(n.to_string(), format!("Section {n}")));
            (format!("Chapter {chapter}"), sections.collect())
        }
        ["chapter", chapter, section] => {
            let (chapter, section) = (number(chapter, CHAPTERS)?, number(section, SECTIONS)?);
            let next = link(format!("{}#top", section % SECTIONS + 1), "The next section".into());
            (format!("Chapter {chapter}, section {section}"), next + &link("/".into(), "Contents".into()))
        }
        _ => return None,
    };
    Some(format!("<!doctype html><title>{title}</title><h1 id=\"top\">{title}</h1><ul>{links}</ul>"))
}
