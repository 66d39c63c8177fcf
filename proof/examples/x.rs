use pulk::store::{JournaledStore,Sizes,sled::{Limits,Limit},Store};
fn main(){
 let root=std::path::Path::new("/dev/shm/xx"); let _=std::fs::remove_dir_all(root);
 let sizes=Sizes{journal_file_bytes:16<<10,compaction:Limits{plenty:Limit{spare_bytes:1<<16,ratio:2},short:Limit{spare_bytes:1<<16,ratio:2}}};
 for i in 0..20{ let d=root.join(format!("{i}")); let t=std::time::Instant::now(); let s=JournaledStore::open_with_sizes(&d,0,sizes).unwrap(); let a=t.elapsed();
  let t=std::time::Instant::now(); s.close().unwrap(); drop(s); let c=t.elapsed(); let t=std::time::Instant::now();
  let s=JournaledStore::open_with_sizes(&d,0,sizes).unwrap(); let b=t.elapsed(); let t=std::time::Instant::now(); drop(s);
  println!("fresh {a:?} close {c:?} reopen {b:?} drop {:?}",t.elapsed()); }
}
