// Query macros read it while they compile.
const DATABASE_URL: &str = env!("DATABASE_URL", "set `DATABASE_URL` to use query macros online");

fn main() {
    println!("{} bytes", DATABASE_URL.len());
}
